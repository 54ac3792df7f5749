"""Plans for batches: the images of one share ciphertexts, and nothing else changes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from batch_networks import INPUTS, OUTPUTS, SAMPLES, exact, network, plan
from cli_runner import hec
from hec.compiler import ckks_ir
from hec.compiler.checked_json import parse
from hec.compiler.ckks_ir import Bootstrapping, EncryptionParameters
from hec.compiler.errors import CompileError
from hec.compiler.plan import Plan
from hec.compiler.plan_parts import PlanInput
from hec.compiler.plan_rules import check_parameters
from hec.compiler.record import decode, encode
from hec.compiler.report import report, server_of
from hec.compiler.report_html import html
from hec.compiler.target import BackendName, Target
from hec.compiler.text import parse_program, payloads, print_program
from hec.runtime import container
from hec.runtime.images import for_all_images, interleaved, separated
from hec.runtime.input_checks import checked_samples, same_count
from hec.runtime.simulate import run_clear, run_simulated
from sample_plans import DEEP
from test_strategies import of_squares

BATCHES = (2, 3, 64, 1000)
SHARED = replace(DEEP, batch=8)
RANDOM = np.random.default_rng(7)


@pytest.mark.parametrize("batch", BATCHES)
def test_a_batch_predicts_what_single_images_do(batch: int) -> None:
    shared = plan(batch)
    np.testing.assert_allclose(
        run_clear(shared, SAMPLES).outputs["y"], exact(SAMPLES), rtol=0, atol=1e-5
    )
    simulated = run_simulated(shared, SAMPLES)
    assert simulated.overflows == 0
    error = np.abs(simulated.outputs["y"] - exact(SAMPLES)).max()
    assert 0 < error < 2.0**-shared.client.precision


@pytest.mark.parametrize(("batch", "share"), [(1, 1), (2, 2), (3, 4), (64, 64)])
def test_images_share_ciphertexts_by_powers_of_two(batch: int, share: int) -> None:
    parameters = plan(batch).client.parameters
    assert parameters.batch == share
    assert parameters.slots * share == parameters.ring_slots == parameters.ring_degree // 2


def test_a_ciphertext_of_one_element_of_many_images_needs_no_rotation() -> None:
    shared = plan(10**6)
    parameters, keys = shared.client.parameters, shared.client.keys
    assert parameters.slots == 1 and parameters.batch == parameters.ring_slots
    assert keys.rotations == () and keys.relinearization
    assert [item.layout.blocks for item in shared.client.inputs] == [INPUTS]
    assert [item.layout.blocks for item in shared.client.outputs] == [OUTPUTS]


def test_more_images_together_take_less_time_each() -> None:
    seconds = [
        server_of(report(found)).seconds / found.client.parameters.batch
        for found in map(plan, (1, 4, 64))
    ]
    assert seconds[0] > 2 * seconds[1] > 4 * seconds[2]


def test_the_slots_of_images_alternate() -> None:
    images = RANDOM.uniform(-1, 1, (4, 2, 8))
    ring = interleaved(images, 4)
    assert ring.shape == (2, 32)
    for image, slot in ((0, 0), (1, 0), (3, 5)):
        assert ring[1, slot * 4 + image] == images[image, 1, slot]
    np.testing.assert_array_equal(separated(ring, 4, 4), images)
    rolled = np.roll(ring, -3 * 4, axis=1)  # a rotation by 3 slots of every image
    np.testing.assert_array_equal(separated(rolled, 4, 4), np.roll(images, -3, axis=2))


def test_the_last_image_fills_what_is_left() -> None:
    images = RANDOM.uniform(-1, 1, (3, 1, 2))
    ring = interleaved(images, 8)
    np.testing.assert_array_equal(separated(ring, 8, 3), images)
    np.testing.assert_array_equal(separated(ring, 8, 8)[3:], np.repeat(images[2:], 5, axis=0))


def test_what_all_images_have_in_common_repeats() -> None:
    np.testing.assert_array_equal(for_all_images(np.array([1.0, 2.0]), 3), [1, 1, 1, 2, 2, 2])
    assert for_all_images(np.array([5.0]), 4).shape == ()
    assert for_all_images(np.array([5.0]), 1).shape == (1,)
    assert for_all_images(np.array(5.0), 4).shape == ()


def item(shape: tuple[int, ...] = (1, 2, 3)) -> PlanInput:
    return replace(plan(4).client.inputs[0], shape=shape)


@pytest.mark.parametrize("given", [(5, 2, 3), (5, 1, 2, 3), (1, 2, 3), (2, 3), (1, 1, 2, 3)])
def test_samples_are_counted_by_the_first_axis(given: tuple[int, ...]) -> None:
    x = RANDOM.uniform(-1, 1, given)
    found = checked_samples(x, item(), 8)
    assert found.shape == (5 if given[0] == 5 else 1, 1, 2, 3)
    np.testing.assert_array_equal(found.reshape(-1), x.reshape(-1))


@pytest.mark.parametrize(
    ("shape", "given", "message"),
    [
        (
            (1, 2, 3),
            (5, 3, 2),
            "Expected an array of shape (n, 2, 3), got (5, 3, 2)\n  --> input 'x'\n"
            "  help: give n samples, 1 to 4, in the model's own shape",
        ),
        (
            (7,),
            (4,),
            "Expected an array of shape (n, 7), got (4,)\n  --> input 'x'\n"
            "  help: give n samples, 1 to 4, in the model's own shape",
        ),
        (
            (1, 3),
            (0, 3),
            "Expected an array of shape (n, 3), got (0, 3)\n  --> input 'x'\n"
            "  help: give n samples, 1 to 4, in the model's own shape",
        ),
        (
            (1, 3),
            (5, 3),
            "5 samples are more than the 4 that one message carries\n  --> input 'x'\n"
            "  help: encrypt 4 at a time, or compile with a larger --batch",
        ),
    ],
)
def test_other_shapes_are_refused(
    shape: tuple[int, ...], given: tuple[int, ...], message: str
) -> None:
    with pytest.raises(CompileError) as caught:
        checked_samples(np.zeros(given), item(shape), 4)
    assert str(caught.value) == message


def test_missing_values_are_refused_in_batches_too() -> None:
    x = np.zeros((2, INPUTS))
    x[1, 3] = np.nan
    with pytest.raises(CompileError) as caught:
        checked_samples(x, plan(4).client.inputs[0], 4)
    assert str(caught.value) == (
        "1 of 24 values are not finite; the first is nan at [1, 0, 3]\n  --> input 'x'\n"
        "  help: replace missing values before encryption"
    )


def test_inputs_must_have_as_many_samples() -> None:
    assert same_count({"a": np.zeros((3, 1)), "b": np.zeros((3, 2))}) == 3
    with pytest.raises(CompileError) as caught:
        same_count({"a": np.zeros((3, 1)), "b": np.zeros((2, 1))})
    assert str(caught.value) == (
        "The inputs have different numbers of samples: 'a' has 3, 'b' has 2\n"
        "  --> inputs of the model\n"
        "  help: give the same number of samples for each input"
    )


def test_messages_tell_how_many_images_they_carry() -> None:
    part = plan(4).client
    data = container.pack("encrypted input", part, {"x": (b"abc",)}, 3)
    assert container.unpack_message(data, "encrypted input", part) == ({"x": (b"abc",)}, 3)
    single = plan(1).client
    data = container.pack("encrypted input", single, {"x": (b"abc",)}, 1)
    assert b"images" not in data
    assert container.unpack_message(data, "encrypted input", single) == ({"x": (b"abc",)}, 1)
    assert b"images" not in container.pack("secret key", part, {"x": (b"abc",)})


@pytest.mark.parametrize("count", [0, 5, -1, 2**70])
def test_an_impossible_number_of_images_is_refused(count: int) -> None:
    part = plan(4).client
    data = container.pack("encrypted input", part, {"x": (b"abc",)}, count)
    with pytest.raises(CompileError) as caught:
        container.unpack_message(data, "encrypted input", part, "x.enc")
    expected = "1 to 4 images" if count < 2**64 else "a whole number"
    assert str(caught.value) == (
        f"The file is damaged: expected {expected}, found {count}\n  --> x.enc: images\n"
        "  help: copy the file again from where it was made, or make it again"
    )


@pytest.mark.parametrize("batch", [0, -2, 3, 8192])
def test_plans_with_an_impossible_batch_are_refused(batch: int) -> None:
    with pytest.raises(CompileError) as caught:
        check_parameters(replace(DEEP, batch=batch), "model.hec")
    assert str(caught.value) == (
        f"The file is damaged: no {batch} images share the slots of a ciphertext\n"
        "  --> model.hec\n"
        "  help: copy the file again from where it was made, or make it again"
    )


def test_plans_that_refresh_batches_are_refused() -> None:
    how = Bootstrapping((3, 2), (0, 0), 8)
    with pytest.raises(CompileError) as caught:
        check_parameters(replace(SHARED, digits=3, bootstrapping=how), "model.hec")
    assert "a bootstrap refreshes one image at a time" in str(caught.value)


def test_the_batch_is_left_out_of_files_where_it_is_one() -> None:
    stored = encode(DEEP, [])
    assert isinstance(stored, dict) and "batch" not in stored
    for chosen in (DEEP, SHARED):
        text = json.dumps(encode(chosen, [])).encode()
        assert decode(EncryptionParameters, parse(text, "file"), []) == chosen
    assert decode(Target, parse(json.dumps(encode(Target(), [])).encode(), "file"), []) == Target()


def test_a_plan_of_a_batch_comes_back_from_its_file(tmp_path: Path) -> None:
    shared = plan(64)
    shared.save(tmp_path / "plan.hec")
    loaded = Plan.load(tmp_path / "plan.hec")
    assert loaded.client.parameters == shared.client.parameters
    assert loaded.server.target == shared.server.target
    assert loaded.plan_id == shared.plan_id


def test_programs_of_batches_print_and_parse() -> None:
    program = plan(64).server.program
    text = print_program(program)
    assert ", batch 64\n" in text
    assert parse_program(text, payloads(program)).parameters == program.parameters


def test_networks_that_need_bootstraps_have_no_batches() -> None:
    with pytest.raises(CompileError) as caught:
        of_squares(45, Target(batch=8)).best()
    assert str(caught.value) == (
        "images cannot share ciphertexts, for that takes a leveled program: a leveled program"
        " would need 91 levels or more, 22 bits each; at 128-bit security a modulus has 881 bits\n"
        "  --> 92 layers\n"
        "  help: leave out --batch: bootstraps refresh the ciphertexts of one image"
    )


def test_the_command_line_compiles_for_batches(tmp_path: Path) -> None:
    model, output = tmp_path / "small.onnx", tmp_path / "small.hec"
    model.write_bytes(network())
    np.save(tmp_path / "x.npy", SAMPLES)
    words = ("compile", model, "-o", output, "--calibration", tmp_path / "x.npy", "--batch", 100)
    run = hec(*words, "--backend", "tenseal", "--json")
    assert run.exit_code == 0, run.stderr
    told = json.loads(run.stdout)
    share = Plan.load_client(output).parameters.batch
    assert told["batch"] == share >= 100
    assert told["forecast_seconds_per_image"] == told["forecast_seconds"] / share
    run = hec(*words, "--backend", "tenseal")
    assert (
        f"for {share} images at once: " in run.stdout and " in a second, one thread" in run.stdout
    )


def test_reports_tell_of_batches(tmp_path: Path) -> None:
    plan(64).save(tmp_path / "small.hec")
    told = hec("report", tmp_path / "small.hec").stdout
    slots = plan(64).client.parameters.ring_slots
    assert f"{slots} slots for 64 images" in told and " for 64 predictions at once: " in told
    assert (
        json.loads(hec("report", tmp_path / "small.hec", "--json").stdout)["parameters"]["batch"]
        == 64
    )
    assert "64 predictions at once, " in html(report(plan(64)))


@pytest.mark.parametrize("backend", ["tenseal", "openfhe"])
def test_layers_of_one_slot_are_explained(tmp_path: Path, backend: BackendName) -> None:
    shared = plan(10**6, backend)
    shared.save(tmp_path / "small.hec")
    run = hec("explain", tmp_path / "small.hec", "last", "--json")
    assert run.exit_code == 0, run.stderr
    story = json.loads(run.stdout)["matrices"][0]
    assert story["products"] == 36 and story["product_seconds"] > 0
    assert hec("report", tmp_path / "small.hec", "--html", tmp_path / "small.html").exit_code == 0


def test_a_batch_has_an_image_at_least(tmp_path: Path) -> None:
    model = tmp_path / "small.onnx"
    model.write_bytes(network())
    run = hec("compile", model, "-o", tmp_path / "small.hec", "--batch", 0)
    assert run.exit_code == 2
    assert run.stderr == (
        "0 images cannot be predicted together\n"
        "  --> --batch 0\n"
        "  help: give how many images you have at a time, 1 or more, such as --batch 4096\n"
    )


def test_only_what_is_encrypted_knows_of_batches() -> None:
    alone, shared = plan(1).server.program, plan(2).server.program
    kinds = [[type(x) for x in program.instructions] for program in (alone, shared)]
    assert kinds[0] == kinds[1]
    (first,) = (x for x in shared.instructions if isinstance(x, ckks_ir.Input))
    assert first.layout.slots == shared.parameters.slots
