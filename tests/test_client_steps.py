"""Steps that the client computes: what they do, and which of them fit which tensor."""

from __future__ import annotations

import numpy as np
import pytest

from hec.compiler.client_shapes import follow
from hec.compiler.client_steps import Affine, Classes, Columns, Label, Normalize, prepared
from hec.compiler.tensor_ir import ClientStep, EpilogueStep
from hec.runtime import epilogue

ARGMAX = EpilogueStep("argmax", axis=-1, keep_axis=False)
PAIR = Affine((0, 0), (-1.0, 1.0), (1.0, 0.0), (1, 2))
AB, ABC = Classes(texts=("a", "b")), Classes(texts=("a", "b", "c"))


def test_an_affine_step_picks_scales_and_shifts() -> None:
    step = Affine((2, 0, 2, 1), (1.0, 10.0, -1.0, 0.0), (0.0, 0.5, 0.0, 7.0), (2, 2))
    np.testing.assert_array_equal(step(np.array([[1.0, 2.0, 3.0]])), [[3.0, 10.5], [-3.0, 7.0]])


def test_labels_keep_the_shape_of_the_positions() -> None:
    positions = np.array([[2, 0], [1, 1]])
    texts = ABC.chosen(positions)
    assert texts.dtype.kind == "U" and texts.tolist() == [["c", "a"], ["b", "b"]]
    numbers = Classes(numbers=(7, -1, 2**40)).chosen(positions)
    assert numbers.dtype == np.int64 and numbers.tolist() == [[2**40, 7], [-1, -1]]


def test_names_of_columns_change_no_value() -> None:
    values = np.ones((1, 3))
    assert epilogue.apply(values, [Columns(ABC)]) is values


def test_every_sample_is_prepared_by_itself() -> None:
    samples = np.array([[3.0, 4.0], [0.0, 0.0], [-6.0, 8.0]])
    found = prepared(samples, (1, 2), (PAIR, Normalize("l1")))
    expected = [[-2 / 5, 3 / 5], [1.0, 0.0], [7 / 13, -6 / 13]]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-15)
    assert prepared(samples[:, None], (1, 2), ()).shape == (3, 2)


@pytest.mark.parametrize(
    "steps",
    [
        (EpilogueStep("softmax", 1), Columns(ABC)),
        (EpilogueStep("sigmoid"), EpilogueStep("argmax", 1), Label(ABC)),
        (ARGMAX, EpilogueStep("cast", dtype="int32"), Label(Classes((1, 2, 3)))),
        (ARGMAX, Label(ABC), EpilogueStep("reshape", shape=(1, 1, 1))),
        (ARGMAX, Label(Classes((1, 2, 3))), EpilogueStep("cast", dtype="float32")),
        (Affine((0,), (1.0,), (0.0,), (1, 1)), EpilogueStep("sigmoid"), PAIR, Normalize("max")),
        (EpilogueStep("reshape", shape=(3, 1)), EpilogueStep("argmax", 0), Label(ABC)),
    ],
)
def test_steps_that_fit_lead_to_the_shape_that_they_compute(steps: tuple[ClientStep, ...]) -> None:
    found = epilogue.apply(np.array([[0.1, 0.3, 0.2]]), steps)
    assert follow((1, 3), steps).shape == found.shape


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ((Label(ABC),), "labels without an arg-max before them"),
        ((ARGMAX, Label(AB)), "2 labels for 3 classes"),
        ((ARGMAX, EpilogueStep("sigmoid"), Label(ABC)), "labels without an arg-max before them"),
        ((ARGMAX, Label(ABC), EpilogueStep("sigmoid")), "'sigmoid' of class labels"),
        ((ARGMAX, Label(ABC), Columns(ABC)), "'columns' of class labels"),
        ((ARGMAX, Label(ABC), EpilogueStep("cast", dtype="int64")), "a cast of texts to numbers"),
        ((ARGMAX, Label(Classes())), "there are no class labels"),
        ((Columns(AB),), "2 labels for 3 columns"),
        ((Columns(Classes((1,), ("a",))),), "class labels are both numbers and texts"),
        ((Columns(Classes((2**63,))),), "a class label does not fit 64 bits"),
        ((Columns(Classes(texts=("a" * 1001,))),), "a class label is longer than 1,000 characters"),
        ((Columns(Classes(texts=("a\0",))),), "a class label is no text that could be written"),
        ((EpilogueStep("softmax", 2),), "axis 2 of a tensor of shape (1, 3)"),
        ((EpilogueStep("argmax", -3),), "axis -3 of a tensor of shape (1, 3)"),
        ((EpilogueStep("reshape", shape=(2, 2)),), "a reshape of (1, 3) to (2, 2)"),
        ((EpilogueStep("reshape", shape=(-1, -3)),), "a reshape of (1, 3) to (-1, -3)"),
        ((Affine((3,), (1.0,), (0.0,), (1,)),), "an affine step that reads foreign elements"),
        ((Affine((0, 0), (1.0,), (0.0,), (1,)),), "an affine step of the wrong size"),
        ((Affine((), (), (), (0,)),), "an affine step of the wrong size"),
        (
            (
                EpilogueStep("reshape", shape=(3,)),
                EpilogueStep("argmax", 0, False),
                Normalize("l1"),
            ),
            "axis -1 of a tensor of shape ()",
        ),
    ],
)
def test_steps_that_do_not_fit_are_told(steps: tuple[ClientStep, ...], reason: str) -> None:
    with pytest.raises(ValueError) as caught:
        follow((1, 3), steps)
    assert str(caught.value) == reason
