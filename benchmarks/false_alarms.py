"""How often `ferkit summarize --compare` finds a difference where there is none: studies simulated under the null.

Each person has a disposition of their own to show the seven emotions (Dirichlet), and their frames follow it, so frames
of one person are alike. `faces` is what not to do: each face for itself, with a chi-squared test of the counts.

    python benchmarks/false_alarms.py --studies 2000
"""

import numpy as np
from scipy.stats import chi2_contingency

from _shared import options_of
from ferkit.evaluation import compare_conditions
from ferkit.labels import EMOTIONS

# Neutral and happy are common, disgust and fear are rare.
DISPOSITION = np.array([0.4, 0.1, 0.2, 1.5, 0.6, 0.3, 3.0])
FRAMES = 300


def study(rng: np.random.Generator, n: int, m: int, *, paired: bool) -> tuple[list[dict[str, object]], np.ndarray]:
    """Rows of n people in one condition and m in the other, who do not differ, and the counts of both."""
    people = rng.dirichlet(DISPOSITION, n if paired else n + m)
    rows, counts = [], np.zeros((2, len(EMOTIONS)))
    for film, size, first in ((0, n, 0), (1, m, 0 if paired else n)):
        for who in range(first, first + size):
            # In each condition a mood of its own, around the disposition.
            shown = rng.multinomial(FRAMES, rng.dirichlet(8 * people[who] + 1e-3))
            counts[film] += shown
            shares = {f"share_{label}": n / FRAMES for label, n in zip(EMOTIONS, shown, strict=True)}
            rows.append({"person": str(who), "film": str(film), **shares})
    return rows, counts


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--studies", type=int, default=2000)
    studies = parser.parse_args().studies
    print("| people | design | any emotion, p (Holm) < 0.05 | one emotion, p < 0.05 | faces as the unit |")
    print("|---|---|---|---|---|")
    for n, m, paired in ((6, 6, True), (12, 12, True), (30, 30, True), (5, 5, False), (12, 12, False), (10, 30, False)):
        rng, any_alarm, happy, naive = np.random.default_rng(0), 0, 0, 0
        for _ in range(studies):
            rows, counts = study(rng, n, m, paired=paired)
            tests = compare_conditions(rows, "film").pairs[0].differences
            any_alarm += min(one.p_holm for one in tests) < 0.05
            happy += next(one.p for one in tests if one.measure == "share_happy") < 0.05
            naive += chi2_contingency(counts[:, counts.sum(axis=0) > 0]).pvalue < 0.05
        people = f"{n}" if paired else f"{n} and {m}"
        found = " | ".join(f"{alarms / studies:.1%}" for alarms in (any_alarm, happy, naive))
        print(f"| {people} | {'paired' if paired else 'two groups'} | {found} |", flush=True)


if __name__ == "__main__":
    main()
