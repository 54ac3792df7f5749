"""The words of a report: names, what stands out, what is not known, and the essentials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from hec.compiler.instance_report import KeysReport
from hec.compiler.layer_report import LayerKind, LayerReport
from hec.compiler.quantities import duration, size
from hec.compiler.report import Report, report, server_of
from hec.compiler.report_cards import Card, cards, kinds, memory_parts, peaks_early
from hec.compiler.report_words import (
    elided,
    gaps,
    highlights,
    keys_in_words,
    operators,
    primes_in_words,
    short_names,
    shortened,
)
from hec.compiler.server_report import ServerReport
from report_plans import residual_plan, with_results
from sample_plans import deep_program, plan_of

DEEP_LABELS = ("", "", *["conv"] * 4, *["square"] * 3, "tanh", "", "")


@pytest.fixture(scope="module")
def refreshing() -> Report:
    return report(residual_plan(2))


@pytest.fixture(scope="module")
def leveled() -> Report:
    return report(with_results(plan_of(deep_program()), DEEP_LABELS))


def changed(told: Report, **changes: object) -> Report:
    server: ServerReport = replace(server_of(told), **changes)  # type: ignore[arg-type]
    return replace(told, server=server)


def named(like: Report, *layers: tuple[str, LayerKind]) -> list[LayerReport]:
    (layer, *_) = server_of(like).layers
    return [replace(layer, nodes=nodes, kind=kind, operation=kind) for nodes, kind in layers]


def matrices(like: Report, *labels: str) -> list[LayerReport]:
    return named(like, *((label, "matrix") for label in labels))


def test_a_short_name_is_as_much_of_a_path_as_tells_it_from_others(leveled: Report) -> None:
    for labels, names in (
        (("a/b/Conv", "a/c/Conv"), ("b/Conv", "c/Conv")),
        (("a/b/x/Conv", "a/c/x/Conv", "a/c/x/Conv"), ("b/x/Conv", "c/x/Conv", "c/x/Conv")),
        (("a/z/b/x/Conv", "a/z/c/x/Conv", "d/c/x/Conv"),
         ("z/b/x/Conv", "z/c/x/Conv", "d/c/x/Conv")),
        (("0/a/b/c/Conv", "1/a/b/c/Conv"), ("a/b/c/Conv", "a/b/c/Conv")),  # no more than four
        (("fc", ""), ("fc", "matrix")),
    ):  # fmt: skip
        assert short_names(matrices(leveled, *labels), 40) == names
    assert short_names(matrices(leveled, "a/long/name"), 6) == ("lo…ame",)


def test_a_matrix_is_not_called_after_an_activation_that_has_its_own_layer(
    leveled: Report,
) -> None:
    layers = named(
        leveled, ("a/Relu + a/Conv", "matrix"), ("a/Relu", "polynomial"), ("a/Relu", "matrix"),
        ("b/Add", "sum"), ("a/Relu + b/Add + c/Conv", "matrix"), ("a/Relu + b/Add", "sum"),
    )  # fmt: skip
    assert short_names(layers, 40) == ("a/Conv", "a/Relu", "a/Relu", "b/Add", "b/Add +1",
                                       "a/Relu +1")  # fmt: skip
    assert operators(layers, 40) == ("Conv", "Relu", "Relu", "Add", "Add +1", "Relu +1")
    assert operators(named(leveled, ("", "sum")), 40) == ("sum",)


@pytest.mark.parametrize(
    ("label", "longest", "short"),
    [
        ("a/b/c", 20, "b/c"),
        ("a/b/c + d", 20, "b/c +1"),
        ("a/b/c + d + 4 more", 20, "b/c +5"),
        ("a + 4 nodes + x more", 20, "a +2"),  # names, not counts
        ("abcdefghij + d", 9, "ab…hij +1"),
    ],
)
def test_a_label_is_its_first_node_and_how_many_more(label: str, longest: int, short: str) -> None:
    assert shortened(label, longest) == short


def test_the_middle_of_a_long_text_is_left_out() -> None:
    assert elided("abcdefghij", 10) == "abcdefghij"
    assert elided("abcdefghijk", 10) == "abc…fghijk"


def test_primes_and_keys_are_counted() -> None:
    assert primes_in_words((60.1, 42.2, 41.9, 42.0, 38.0), 60.4) == "60 + 3 x 42 + 38, special 60"
    assert keys_in_words(KeysReport(3, 1, 60, 10, 10)) == (
        "3 of rotations, 60 of the bootstrap, 1 of products"
    )
    assert keys_in_words(KeysReport(3, 0, 0, 10, 10)) == "3 of rotations"
    assert keys_in_words(KeysReport(0, 0, 0, 10, 10)) == "none"


def test_bootstraps_stand_out_where_they_take_half_of_the_time(refreshing: Report) -> None:
    server = server_of(refreshing)
    assert server.bootstraps is not None
    kinds, how = server.seconds_by_kind, replace(server.bootstraps, seconds_each=(5.0, 7.0))
    half = replace(kinds, bootstraps=server.seconds / 2)
    told = highlights(changed(refreshing, seconds_by_kind=half, bootstraps=how))
    assert told[0] == "The 5 bootstraps take 50 % of the time: 5 s or 7 s each."
    fewer = replace(kinds, bootstraps=0.49 * server.seconds)
    assert highlights(changed(refreshing, seconds_by_kind=fewer))[0].startswith("Layer ")


def test_the_slowest_layer_and_the_largest_part_of_memory_stand_out(leveled: Report) -> None:
    server = server_of(leveled)
    conv, square, tanh = (replace(x, seconds=1.0) for x in server.layers)
    memory = replace(server.memory, keys=6 * 10**9, peak=8 * 10**9)
    most = "Most memory goes to evaluation keys: 6 GB, 75 % of the server's memory."
    for layers, slowest in (
        ((replace(conv, seconds=2.0), square, tanh),
         "1 (conv) takes 50 % of the time, 2 s: a matrix with 8 diagonals and 5 key switches at "
         "level 4."),
        ((conv, square, replace(tanh, seconds=3.0, key_switches=0)),
         "3 (tanh) takes 75 % of the time, 3 s: a polynomial of degree 3 at level 3."),
    ):  # fmt: skip
        told = changed(leveled, layers=layers, seconds=4.0, memory=memory, activations=())
        assert highlights(told) == (f"Layer {slowest}", most)
    for name, part in (
        ("encoded matrices of the bootstrap", "bootstrapping"),
        ("encoded weights", "diagonals"),
        ("ciphertexts at work and the process", "working"),
        ("the process and the file of keys", "loading"),
    ):
        held = replace(memory, **{part: 7 * 10**9})
        assert highlights(changed(leveled, memory=held))[1] == (
            f"Most memory goes to {name}: 7 GB, 88 % of the server's memory."
        )


def test_nothing_stands_out_where_no_layer_is_known(leveled: Report) -> None:
    assert (
        highlights(replace(leveled, server=None)) == highlights(changed(leveled, layers=())) == ()
    )


def test_the_least_exact_fit_and_the_one_that_samples_leave_stand_out(leveled: Report) -> None:
    (fit,) = server_of(leveled).activations
    near = replace(fit, nodes="a/b/Relu", error_at_outputs=0.01, tail_probability=1e-3)
    far = replace(fit, nodes="c/Tanh", error_at_outputs=0.002, tail_probability=0.03)
    unknown = replace(fit, nodes="d", error_at_outputs=None, tail_probability=None)
    assert highlights(changed(leveled, activations=(near, far, unknown)))[2:] == (
        "The fit that moves the outputs most is relu at b/Relu, of degree 7: by 1.00 % of their "
        "size, if it were the only one.",
        "New samples may leave the interval of c/Tanh: with probability 0.03 for the farthest of "
        "its elements; more calibration samples widen it.",
    )
    assert "interval of b/Relu" in highlights(changed(leveled, activations=(near,)))[3]
    rare = replace(near, tail_probability=9e-4)
    assert len(highlights(changed(leveled, activations=(rare,)))) == 3
    assert len(highlights(changed(leveled, activations=(unknown,)))) == 2


def test_each_gap_is_told_where_it_is_one(leveled: Report) -> None:
    server = server_of(leveled)
    assert gaps(leveled) == ()
    assert gaps(replace(leveled, server=None)) == (
        "Layers, time, memory and errors: this file holds only the client's part.",
    )
    assert gaps(changed(leveled, calibration=None)) == (
        "Agreement with the network: the plan was made without calibration samples, or by an "
        "older hec. Compile with --calibration, or measure it with hec check.",
    )
    (fit,) = server.activations
    some = (fit, replace(fit, histogram=None))
    assert gaps(changed(leveled, activations=some)) == (
        "Histograms of the activations' inputs: they are not in this plan.",
    )
    bare = tuple(replace(x, approximation_error=None) for x in server.layers)
    assert gaps(changed(leveled, layers=bare)) == (
        "The share of the errors that fitted activations cause: it is measured on calibration "
        "samples.",
    )
    assert gaps(changed(leveled, layers=(*bare[1:], server.layers[0]))) == ()
    assert gaps(changed(leveled, layers=bare, activations=())) == ()


def shown(found: Sequence[Card]) -> dict[str, tuple[str, str]]:
    return {card.label: (f"{card.value} {card.unit}".strip(), card.note) for card in found}


def test_the_essentials_of_a_leveled_plan(leveled: Report) -> None:
    server = server_of(leveled)
    memory = replace(server.memory, loading=0)
    assert shown(cards(changed(leveled, memory=memory))) == {
        "Time": (duration(server.seconds), "one prediction, one thread, reference machine"),
        "Agreement": ("99.2 %", "of 256 calibration samples keep their class"),
        "Precision": ("12.5 bits", "promised: outputs exact to 0.00017"),
        "Depth": ("3 levels", "no bootstraps"),
        "Server's memory": (
            size(memory.peak), f"keys {size(memory.keys)}, weights {size(memory.diagonals)}"
        ),
        "Evaluation keys": (size(leveled.key_bytes), "5 keys, sent once"),
        "Each prediction": (
            size(leveled.request_bytes), f"sent, {size(leveled.reply_bytes)} received"
        ),
        "Security": ("128 bits", "210 of 218 bits of modulus"),
    }  # fmt: skip


def test_the_essentials_of_the_clients_part(leveled: Report, refreshing: Report) -> None:
    whole = shown(cards(leveled))
    unknown = dict.fromkeys(
        ("Time", "Agreement", "Server's memory"), ("", "only the client's part")
    )
    client = replace(leveled, server=None)
    assert shown(cards(client)) == {**whole, **unknown}
    assert list(whole) == [card.label for card in cards(client)]
    assert shown(cards(replace(refreshing, server=None)))["Depth"][1] == "and bootstraps"


def test_what_calibration_tells_is_an_agreement_or_an_error(
    leveled: Report, refreshing: Report
) -> None:
    known = server_of(leveled).calibration
    assert known is not None
    for calibration, label, value in (
        (replace(known, agreement=None), "Error of approximation",
         ("3.10 %", "of the outputs, on 256 calibration samples")),
        (None, "Agreement", ("", "no calibration samples in this plan")),
    ):  # fmt: skip
        assert shown(cards(changed(leveled, calibration=calibration)))[label] == value
    assert shown(cards(refreshing))["Bootstraps"] == ("5", "on a way of 9 levels")


def test_the_parts_of_memory_are_those_that_are_not_empty(leveled: Report) -> None:
    memory = server_of(leveled).memory
    some = replace(memory, keys=1, bootstrapping=0, diagonals=3, working=4, loading=7)
    assert [(x.label, x.bytes, x.colour) for x in memory_parts(some)] == [
        ("evaluation keys", 1, "keys"),
        ("encoded weights", 3, "weights"),
        ("ciphertexts and process", 4, "process"),
    ]
    assert not peaks_early(some)
    early = replace(some, loading=8)
    assert peaks_early(early)
    assert [(x.label, x.bytes) for x in memory_parts(early)] == [
        ("evaluation keys", 1), ("process and file of keys", 8)
    ]  # fmt: skip
    told = server_of(leveled).memory
    assert peaks_early(told)
    assert sum(x.bytes for x in memory_parts(told)) == told.peak
    (bootstrap, *_) = memory_parts(replace(some, keys=0, bootstrapping=2))
    assert (bootstrap.label, bootstrap.bytes, bootstrap.colour) == ("bootstrap", 2, "bootstrap")


def test_kinds_are_those_that_occur(leveled: Report, refreshing: Report) -> None:
    matrix, activation = ("matrix", "matrix"), ("polynomial", "activation or product")
    assert kinds(server_of(leveled)) == (matrix, activation)
    assert kinds(server_of(refreshing)) == (matrix, ("bootstrap", "bootstrap"), ("sum", "sum"))
