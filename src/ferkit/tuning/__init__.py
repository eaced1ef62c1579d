"""Searching for better values of a recipe: the plan, its trials, the search itself."""

from ferkit.tuning.running import check_free, check_trials, load_optuna, stored_plan, tune

__all__ = ["check_free", "check_trials", "load_optuna", "stored_plan", "tune"]
