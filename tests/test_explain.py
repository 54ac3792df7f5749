"""A layer's story agrees with the plan, the forecast, and the search that split its matrix."""

from __future__ import annotations

import json
from dataclasses import replace
from math import log2
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bootstrap_plans import parameters, refreshing_program
from cli_runner import compile_mlp, hec
from hec.compiler.ckks_ir import Add, Input, LinearTransform, Output, Program
from hec.compiler.cost import bootstrap_seconds
from hec.compiler.explain import LayerStory, explain
from hec.compiler.explain_levels import LevelsOfLayer, why_level
from hec.compiler.explain_matrix import SplitStory, listed, why_split
from hec.compiler.explain_series import why_degree
from hec.compiler.layers import layers
from hec.compiler.noise import bootstrapping
from hec.compiler.plan import Plan
from hec.compiler.plan_parts import PlanFit
from hec.compiler.report import report
from hec.compiler.rotation_costs import rotation_seconds, steps_of
from hec.compiler.schedule import Split, splits
from hec.compiler.tensor_ir import Curve, Fit, Histogram
from sample_plans import SMALL, deep_program, first_slots, linear_program, moving_program, plan_of

FIT = Fit("tanh", 3, (-3.0, 3.0), (-2.5, 2.0), 0.01, sensitivity=0.5, at_outputs=0.004)


def labelled(plan: Plan, labels: tuple[str, ...], fits: tuple[PlanFit, ...] = ()) -> Plan:
    return Plan.of(plan.client, replace(plan.server, labels=labels, fits=fits))


@pytest.fixture
def linear() -> Plan:
    return labelled(plan_of(linear_program()), ("", "fc1", "fc1", "fc1", ""))


@pytest.fixture
def deep() -> Plan:
    labels = ("", "", *["conv"] * 4, *["square"] * 3, "tanh", "", "")
    return labelled(plan_of(deep_program()), labels, (PlanFit("tanh", FIT),))


@pytest.fixture
def refreshing() -> Plan:
    plan = plan_of(refreshing_program(parameters(15)), backend="openfhe")
    return labelled(plan, ("", *["relu1"] * 2, *["fc"] * 2, *["relu2"] * 2, ""))


@pytest.fixture(scope="module")
def mlp(tmp_path_factory: pytest.TempPathFactory, mnist_calibration: NDArray[np.float32]) -> Path:
    return compile_mlp(tmp_path_factory.mktemp("explained"), mnist_calibration[:64])


def stories(plan: Plan) -> list[LayerStory]:
    return [explain(plan, str(layer.number)) for layer in layers(plan.server)]


def test_the_story_has_the_numbers_of_the_report(deep: Plan) -> None:
    server = report(deep).server
    assert server is not None
    for story, told in zip(stories(deep), server.layers, strict=True):
        assert (story.label, story.operation) == (told.nodes, told.operation)
        assert (story.levels.enters, story.levels.leaves) == (told.level_in, told.level_out)
        assert story.result.scale_bits == told.scale_bits
        assert story.seconds.total == pytest.approx(told.seconds)
        assert story.plaintext_bytes == told.plaintext_bytes
        assert story.costs == server.costs
        assert story.share == pytest.approx(told.seconds / server.seconds)


def test_seconds_are_split_without_rest(deep: Plan, refreshing: Plan) -> None:
    for story in (*stories(deep), *stories(refreshing)):
        seconds = story.seconds
        parts = (
            seconds.rotations, seconds.products, seconds.rescaling, seconds.encoding,
            seconds.bootstraps, seconds.other,
        )  # fmt: skip
        assert sum(parts) == pytest.approx(seconds.total)
        assert min(parts) >= 0


def test_it_says_what_a_layer_reads_and_who_reads_it(deep: Plan) -> None:
    conv, square, tanh = stories(deep)
    assert [x.source for x in conv.reads] == ["input 'left'", "input 'right'"]
    assert conv.readers == ("2 'square'", "3 'tanh'")
    assert [x.source for x in square.reads] == ["1 'conv'"]
    assert square.readers == ("output 'sums'",)
    assert tanh.readers == ("output 'curve'",)
    assert (conv.result.ciphertexts, conv.result.shape, conv.result.kind) == (2, None, "not known")


def test_the_split_is_compared_with_all_that_the_compiler_tries(linear: Plan) -> None:
    (story,) = stories(linear)
    (matrix,) = story.matrices
    x = linear.server.program.instructions[1]
    assert isinstance(x, LinearTransform)
    tried = {Split(4, -4), *splits(x.matrix.index)}
    assert matrix.tried == len(tried)
    assert (matrix.split.baby_step, matrix.split.baby_start) == (4, -4)
    level = linear.server.program.instructions[0].level  # type: ignore[union-attr]
    prices = {
        split: rotation_seconds(*steps_of(x.matrix, split), linear.client.parameters, level + 1)
        for split in tried
    }
    assert matrix.split.seconds == prices[Split(4, -4)]
    assert matrix.fastest is not None  # the sample's split is made up
    assert matrix.fastest.seconds == min(prices.values()) < matrix.split.seconds
    assert matrix.smaller is not None and matrix.smaller.baby_step == 3
    assert matrix.larger is not None and matrix.larger.baby_step == 5
    assert matrix.baby_seconds + matrix.giant_seconds == pytest.approx(matrix.split.seconds)


def test_a_split_of_those_that_are_tried_counts_once(linear: Plan) -> None:
    program = linear.server.program
    x = program.instructions[1]
    assert isinstance(x, LinearTransform)
    changed = list(program.instructions)
    changed[1] = replace(x, baby_step=4, baby_start=-2)
    plan = plan_of(replace(program, instructions=tuple(changed)))
    assert Split(4, -2) in {*splits(x.matrix.index)}
    assert stories(plan)[0].matrices[0].tried == len({*splits(x.matrix.index)})


def test_many_numbers_are_cut_short() -> None:
    assert listed(range(1, 13)) == "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12"
    assert listed(range(1, 15)) == "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 2 more"


def test_a_matrix_is_counted(linear: Plan) -> None:
    (matrix,) = stories(linear)[0].matrices
    slots = linear.client.parameters.slots
    assert (matrix.diagonals, matrix.possible, matrix.products) == (12, 2 * slots, 12)
    assert matrix.plain_scale_bits == pytest.approx(log2(linear.client.parameters.primes[1]))
    assert matrix.encoded_bytes == 12 * 2 * 2 * slots * 8
    assert matrix.baby_rotations + matrix.giant_rotations == matrix.split.rotations
    steps = {step for step in (*matrix.babies, *matrix.giants)}
    assert steps == set(linear.client.keys.rotations)
    assert matrix.split.new_keys == len(steps)


def test_why_a_split_was_taken() -> None:
    from hec.compiler.explain_matrix import MatrixStory

    chosen = SplitStory(16, 0, 20, 0.25, 3)
    story = MatrixStory(
        9, 64, 9, 0, chosen, 12, 8, (1,), (16,), 0.1, 0.15, 0.01, 0.0, 20.0, 1000, 40,
        SplitStory(8, 0, 24, 0.3, 3), SplitStory(32, 0, 23, 1.5, 5), None,
    )  # fmt: skip
    assert why_split(story) == (
        "of 40 splits none rotates faster: 250 ms for 20 rotations, against 300 ms with baby step "
        "8 and 1.5 s with baby step 32 and 2 more keys"
    )
    best = SplitStory(24, 0, 19, 0.24, 2)
    assert why_split(replace(story, smaller=None, larger=None, fastest=best)) == (
        "250 ms for 20 rotations; baby step 24 would take 240 ms and 1 fewer key"
    )


def test_levels_are_explained_by_what_comes_after(deep: Plan) -> None:
    conv, square, tanh = (story.levels for story in stories(deep))
    assert conv.after == (LevelsOfLayer("3 'tanh'", 2),)
    assert (conv.until, conv.held, conv.spare) == ("output 'curve'", 0, 1)
    assert why_level(conv) == ("2 rescalings until output 'curve' (3 'tanh': 2); 1 to spare")
    assert (square.after, square.until, square.spare) == ((), "output 'sums'", 2)
    assert (tanh.until, tanh.spare) == ("output 'curve'", 1)


def test_levels_before_a_bootstrap_are_those_that_it_needs(refreshing: Plan) -> None:
    fc = explain(refreshing, "fc").levels
    assert fc.until == "the bootstrap 3 'relu2'"
    assert fc.held == 3  # SlotsToCoeffs takes two, and one remains
    assert why_level(fc) == ("0 rescalings until the bootstrap 3 'relu2', which needs 3 levels")


def test_levels_are_held_for_an_output_that_the_lowest_modulus_cannot_hold() -> None:
    layout = first_slots(SMALL.slots, 8)
    for bits, held in ((35, 1), (33, 0)):  # 2.5 more are needed, and the lowest modulus has 36
        program = Program(
            SMALL, (Input("x", layout, 1, 2.0**bits, 1.0), Add(0, 0), Output(1, "y", layout, 1.0))
        )
        (levels,) = (story.levels for story in stories(labelled(plan_of(program), ("", "sum", ""))))
        assert (levels.held, levels.spare) == (held, 1 - held)
        needed = ", which needs 1 level" if held else "; 1 to spare"
        assert why_level(levels) == f"0 rescalings until output 'y'{needed}"


def test_a_polynomial_is_compared_with_other_degrees(deep: Plan) -> None:
    series = explain(deep, "tanh").series
    assert series is not None
    assert series.kind == "polynomial"
    assert (series.chosen.degree, series.chosen.levels) == (3, 2)
    assert series.lower is not None and series.higher is not None
    assert (series.lower.degree, series.lower.levels) == (2, 1)
    assert (series.higher.degree, series.higher.levels) == (7, 3)
    assert series.lower.seconds < series.chosen.seconds < series.higher.seconds
    assert why_degree(series).startswith("degree 3 takes 2 levels and ")
    assert explain(deep, "conv").series is None


def test_a_square_cannot_be_lower(deep: Plan) -> None:
    series = explain(deep, "square").series
    assert series is not None
    assert (series.kind, series.lower, series.ciphertexts) == ("square", None, 2)
    assert series.higher is not None and series.higher.degree == 3


def test_a_bootstrap_is_told_with_its_series(refreshing: Plan) -> None:
    series, chosen = explain(refreshing, "relu1").series, refreshing.client.parameters
    assert series is not None
    assert (series.kind, series.transform_levels) == ("bootstrap", (3, 2))
    assert series.chosen.seconds == bootstrap_seconds(chosen, 15)
    assert series.lower is not None and series.lower.degree == 7
    assert series.higher is not None and series.higher.degree == 31
    assert series.error == bootstrapping(chosen)


def portrayed(degree: int, at_outputs: float | None) -> Fit:
    """Return a fit of relu whose inputs are spread evenly over [-1, 1]."""
    x = tuple(np.linspace(-1.2, 1.2, 81).tolist())
    exact = tuple(max(value, 0.0) for value in x)
    return Fit(
        "relu", degree, (-1.0, 1.0), (-1.0, 1.0), 0.01, at_outputs=at_outputs,
        histogram=Histogram(-1.0, 1.0, (10,) * 40), curve=Curve(x, exact, exact),
    )  # fmt: skip


def test_other_degrees_are_told_with_what_they_do_to_the_outputs(deep: Plan) -> None:
    plan = labelled(deep, deep.server.labels, (PlanFit("tanh", portrayed(3, 0.02)),))
    series = explain(plan, "tanh").series
    assert series is not None and series.lower is not None and series.higher is not None
    x = np.linspace(-1, 1, 2001)
    errors = {
        degree: np.std(np.maximum(x, 0) - np.polynomial.chebyshev.chebval(
            x, np.polynomial.chebyshev.chebfit(x, np.maximum(x, 0), degree)))
        for degree in (2, 3, 7)
    }  # fmt: skip
    assert series.chosen.at_outputs == 0.02
    assert series.lower.at_outputs == pytest.approx(0.02 * errors[2] / errors[3], rel=0.05)
    assert series.higher.at_outputs == pytest.approx(0.02 * errors[7] / errors[3], rel=0.05)
    assert "and change the outputs by about " in why_degree(series)


def test_what_is_not_known_of_other_degrees_is_not_told(deep: Plan) -> None:
    known = portrayed(3, 0.02)
    seen = known.histogram
    assert seen is not None
    for fit in (
        portrayed(3, None),
        portrayed(7, 0.02),
        replace(known, curve=None),
        replace(known, histogram=None),
        replace(known, interval=(1.0, 1.0)),
        replace(known, histogram=replace(seen, low=5.0, high=6.0)),  # no input near the interval
    ):
        plan = labelled(deep, deep.server.labels, (PlanFit("tanh", fit),))
        series = explain(plan, "tanh").series
        assert series is not None and series.lower is not None
        assert series.lower.at_outputs is None


def test_a_fit_is_found_by_its_label_or_its_value(deep: Plan) -> None:
    found = explain(deep, "tanh").activation
    assert found is not None
    assert (found.function, found.degree, found.error_at_outputs) == ("tanh", 3, 0.004)
    assert explain(deep, "conv").activation is None
    used = np.ones((2, deep.client.parameters.slots), np.uint8)
    elsewhere = labelled(deep, deep.server.labels, (PlanFit("other", FIT, 5, used),))
    assert explain(elsewhere, "tanh").activation is not None
    assert explain(elsewhere, "square").activation is not None  # it reads the same value


def test_a_layer_has_all_its_nodes_with_their_operators(mlp: Path) -> None:
    plan = Plan.load(mlp)
    first = explain(plan, "1")
    assert first.reads[0].source == f"input '{plan.client.inputs[0].name}'"
    assert first.reads[0].kind == "arranged by the client for the matrix that reads it"
    assert (first.reads[0].shape, stories(plan)[-1].result.shape) == ((1, 1, 28, 28), (1, 10))
    operators = {node.operator for story in stories(plan) for node in story.nodes}
    assert {"Gemm", "BatchNormalization", "Mul"} <= operators
    for story in stories(plan):
        assert story.result.packing is not None
        assert story.result.packing.ciphertexts == story.result.ciphertexts
        assert story.levels.spare == 0


def test_a_layer_is_found_by_number_label_node_or_part(mlp: Path) -> None:
    plan = Plan.load(mlp)
    known = layers(plan.server)
    for layer in known:
        assert explain(plan, str(layer.number)).label == layer.label
    node = known[0].nodes[0]
    assert explain(plan, node).number == 1
    assert explain(plan, known[0].label).number == 1


def refusal(*arguments: object) -> str:
    run = hec("explain", *arguments)
    assert (run.exit_code, run.stdout) == (2, "")
    return run.stderr


def test_an_unknown_layer_is_refused_with_those_there_are(deep: Plan, tmp_path: Path) -> None:
    path = tmp_path / "deep.hec"
    deep.save(path)
    for wanted in ("7", "0", "relu", ""):
        assert refusal(path, wanted) == (
            f"the plan has no layer '{wanted}'\n"
            f"  --> {path}\n"
            "  help: give one of 1 'conv', 2 'square', 3 'tanh'\n"
        )


def test_a_plan_without_layers_has_no_story(tmp_path: Path) -> None:
    path = tmp_path / "moving.hec"
    plan_of(moving_program()).save(path)
    assert refusal(path, "1") == (
        "the plan has no layers\n"
        f"  --> {path}\n"
        "  help: its network only moves data: see hec report for what that takes\n"
    )


def test_an_ambiguous_layer_is_refused_with_the_candidates(
    refreshing: Plan, tmp_path: Path
) -> None:
    path = tmp_path / "refreshing.hec"
    refreshing.save(path)
    assert refusal(path, "ReLU") == (
        "'ReLU' is the name, or part of it, of 2 layers\n"
        f"  --> {path}\n"
        "  help: give one of the numbers: 1 'relu1', 3 'relu2'\n"
    )


def test_many_candidates_are_cut_short(tmp_path: Path) -> None:
    program = deep_program()
    plan = labelled(plan_of(program), tuple(f"n{i}" for i in range(len(program.instructions))))
    from hec.compiler.layers import Layer, _listed

    many = [Layer(i, "x", (), ()) for i in range(1, 15)]
    assert _listed(many).endswith(", 12 'x' and 2 more")
    assert len(layers(plan.server)) == 8


def test_the_clients_part_has_no_layers(deep: Plan, tmp_path: Path) -> None:
    path = tmp_path / "client.hec"
    deep.save_client(path)
    assert refusal(path, "1") == (
        "the file holds only the client's part of a plan, which knows no layers\n"
        f"  --> {path}\n"
        "  help: give the plan that hec compile wrote with -o\n"
    )


def test_the_command_tells_the_story_in_a_hundred_columns(mlp: Path) -> None:
    for layer in layers(Plan.load(mlp).server):
        run = hec("explain", mlp, layer.number)
        assert (run.exit_code, run.stderr) == (0, "")
        lines = run.stdout.splitlines()
        assert max(map(len, lines)) <= 100
        assert lines[0].startswith(f"layer         {layer.number} of ")
        names = {line[:14].strip() for line in lines}
        assert {"ONNX nodes", "reads", "result", "levels", "seconds", "key switches"} <= names
    told = json.loads(hec("explain", mlp, "1", "--json").stdout)
    assert told["number"] == 1
    assert told["matrices"][0]["diagonals"] > 0


def test_the_command_tells_of_fits_and_bootstraps(
    deep: Plan, refreshing: Plan, tmp_path: Path
) -> None:
    deep.save(tmp_path / "deep.hec")
    refreshing.save(tmp_path / "refreshing.hec")
    text = hec("explain", tmp_path / "deep.hec", "tanh").stdout
    assert "stands for    tanh on [-3, 3], degree 3" in text
    assert "0.40 % of their root mean square" in " ".join(text.split())
    text = hec("explain", tmp_path / "refreshing.hec", "relu1").stdout
    assert "3 levels of CoeffsToSlots, 2 of SlotsToCoeffs" in " ".join(text.split())


def test_a_name_cannot_steer_the_terminal(linear: Plan, tmp_path: Path) -> None:
    named = labelled(linear, ("", *["[red]a[/]\x1b[2J"] * 3, ""))
    named.save(tmp_path / "named.hec")
    shown = hec("explain", tmp_path / "named.hec", "1").stdout
    assert "[red]a[/]\N{REPLACEMENT CHARACTER}[2J" in shown
    assert "\x1b" not in shown
