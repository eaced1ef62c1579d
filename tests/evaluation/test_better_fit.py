"""Wrong orders of classes and wrong pixel scales are noticed, and weak models are not taken for either."""

import itertools

import numpy as np
import pytest

from faces import face_set
from ferkit.evaluation import better_fit as module
from ferkit.evaluation import evaluate
from ferkit.evaluation.better_fit import best_order
from ferkit.evaluation.metrics import counted
from ferkit.labels import EMOTIONS
from ferkit.sources import FaceInput

ALPHABETICAL = tuple(sorted(EMOTIONS))


class Answers:
    """A classifier whose answers are given, in the order of its classes; it runs from first to last."""

    face_input = FaceInput()
    name = "given"

    def __init__(self, classes, answers):
        self.classes, self.answers = classes, answers

    def predict_proba(self, faces):
        return self.answers


def answers(labels, *, strength, k=7, seed=0, bias=1.0, noise=1.0):
    """Probabilities of a model: noise, a taste for some classes, and more for the right one."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, noise, (len(labels), k)) + rng.normal(0, bias, k)
    logits[np.arange(len(labels)), labels] += strength
    powers = np.exp(logits)
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("k", [2, 3, 5, 6])
def test_the_best_order_is_the_best_of_all(k, rng):
    for _ in range(20):
        confusion = rng.integers(1, 50, (k, k))
        recall = confusion / confusion.sum(axis=1, keepdims=True)
        sums = [recall[np.arange(k), list(order)].sum() for order in itertools.permutations(range(k))]
        found = recall[np.arange(k), best_order(confusion)].sum()
        # Small gains are none, so the order stays.
        assert found == pytest.approx(max(sums)) or max(sums) - np.trace(recall) < module._LEAST_GAIN * k


@pytest.mark.parametrize("strength", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("order", [ALPHABETICAL, EMOTIONS[::-1]], ids=["alphabetical", "reversed"])
def test_another_order_is_noticed(order, strength):
    faces = face_set(1500, 1, "PublicTest")
    # The model answers in `order`, and is taken to answer as FER-2013 does.
    told = answers(faces.labels, strength=strength, bias=0.3)[:, [EMOTIONS.index(name) for name in order]]
    report = evaluate(Answers(EMOTIONS, told), faces)
    (found,) = report.parts
    renamed = dict(zip(EMOTIONS, order, strict=True))
    assert {one: name for name, one in found.label_map.items()} == renamed
    assert found.accuracy == pytest.approx(report.accuracy)
    right = evaluate(Answers(order, told), faces)
    assert (right.parts, right.accuracy) == ((), pytest.approx(found.better))
    assert report.to_dict()["better_fit"]["options"] in str(found)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("bias", [0.0, 1.0, 3.0])
@pytest.mark.parametrize(("n", "k"), [(30, 7), (300, 3), (3000, 8)])
def test_weak_models_are_no_wrong_orders(strength, bias, n, k):
    """Models that know nothing or little, and such as nearly always name the same class, on uneven classes."""
    for seed in range(25):
        rng = np.random.default_rng(seed)
        labels = rng.choice(k, n, p=rng.dirichlet(np.full(k, 0.7)))
        predicted = answers(labels, strength=strength, k=k, seed=seed, bias=bias).argmax(axis=1)
        order = best_order(counted(labels, predicted, k))
        assert not module._far_better(labels, predicted == labels, predicted == order[labels]), seed
