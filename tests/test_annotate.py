"""An annotated network is the same network, with every cost at one node, and nothing replaced."""

from __future__ import annotations

import warnings
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, helper

from bootstrap_plans import parameters, refreshing_program
from cli_runner import MLP, hec
from hec.compiler import annotate as module
from hec.compiler.annotate import annotate, annotated
from hec.compiler.errors import CompileError
from hec.compiler.pipeline import compile
from hec.compiler.plan import Plan
from hec.compiler.plan_parts import CalibrationResult, PlanFit
from hec.compiler.report import report
from hec.compiler.target import Target
from hec.compiler.tensor_ir import Fit
from onnx_oracle import network, node
from pooled_networks import pooled, samples
from sample_plans import deep_program, plan_of
from test_compare import labelled

DATA = Path(__file__).resolve().parent / "data"
TARGET = Target(backend="tenseal", degree=2)
FIT = Fit("relu", 3, (-3.0, 3.0), (-2.5, 2.0), 0.01)


def compiled(model: Path | ModelProto, calibration: NDArray[np.float32] | None = None) -> Plan:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return compile(model, calibration=calibration, target=TARGET)


@pytest.fixture(scope="module")
def mlp(mnist_calibration: NDArray[np.float32]) -> Plan:
    return compiled(MLP, mnist_calibration[:64])


@pytest.fixture(scope="module")
def averaging() -> tuple[ModelProto, Plan]:
    model = pooled("AveragePool")
    return model, compiled(model, samples())


def told(node: onnx.NodeProto | ModelProto) -> dict[str, str]:
    found = {x.key: x.value for x in node.metadata_props}
    assert len(found) == len(node.metadata_props)
    return found


def outputs(model: bytes, x: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: each[None]})[0] for each in x])


def assert_same_network(before: bytes, after: bytes, x: NDArray[np.float32]) -> None:
    onnx.checker.check_model(onnx.load_model_from_string(after), full_check=True)
    assert np.array_equal(outputs(before, x), outputs(after, x))


def test_the_network_stays_as_it_was(
    mlp: Plan, mnist_test: NDArray[np.float32], tmp_path: Path
) -> None:
    annotate(mlp, MLP, tmp_path / "out.onnx")
    after = (tmp_path / "out.onnx").read_bytes()
    assert_same_network(MLP.read_bytes(), after, mnist_test[:5])
    new, old = onnx.load_model_from_string(after), onnx.load(MLP)
    for proto in (new, *new.graph.node):
        del proto.metadata_props[:]
        proto.ClearField("doc_string")
    new.ir_version = old.ir_version
    assert new.SerializeToString() == old.SerializeToString()


def test_an_old_network_keeps_its_constants(tmp_path: Path) -> None:
    path = DATA / "cntk-mnist-op8.onnx"
    old = onnx.load(path)
    assert old.ir_version < 4 and len(old.graph.input) > 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plan = compile(path, target=Target(backend="tenseal", degree=2, maxpool="average"))
    annotate(plan, path, tmp_path / "new.onnx")
    new = onnx.load(tmp_path / "new.onnx")
    assert (new.ir_version, len(new.graph.input)) == (10, 1)
    x = np.random.default_rng(0).standard_normal((3, 1, 28, 28)).astype(np.float32)
    assert_same_network(path.read_bytes(), (tmp_path / "new.onnx").read_bytes(), x)


@pytest.mark.parametrize(("version", "inputs"), [(3, 1), (4, 2)])
def test_a_default_that_callers_may_replace_stays(mlp: Plan, version: int, inputs: int) -> None:
    model = onnx.load(MLP)
    model.ir_version = version
    stored = model.graph.initializer[0]
    info = helper.make_tensor_value_info(stored.name, stored.data_type, stored.dims)
    model.graph.input.append(info)
    assert len(annotated(mlp, model).graph.input) == inputs


def deep(
    conv: tuple[str, ...], square: tuple[str, ...], tanh: tuple[str, ...]
) -> tuple[Plan, ModelProto]:
    """Return the plan whose three layers came from these nodes, and its network of four nodes."""
    labels = ("", "", *["conv"] * 4, *["square"] * 3, "tanh", "", "")
    origins = ((), (), *[conv] * 4, *[square] * 3, tanh, (), ())
    plan = labelled(plan_of(deep_program()), labels, origins)
    plan = Plan.of(plan.client, replace(plan.server, fits=(PlanFit("tanh", FIT),)))
    nodes = [
        node("Add", "left,right", "a", name="add"),
        node("MatMul", "a,a", "b", name="product"),
        node("Mul", "b,b", "sums", name="square"),
        node("Tanh", "b", "curve", name="tanh"),
    ]
    shapes = {"left": (1, 8), "right": (1, 8)}
    return plan, network(nodes, shapes, outputs=("sums", "curve"))


def by_node(plan: Plan, model: ModelProto) -> dict[str, dict[str, str]]:
    return {x.name: told(x) for x in annotated(plan, model).graph.node}


def test_functions_stand_at_their_last_node_and_matrices_at_one_that_is_free() -> None:
    found = by_node(*deep(("tanh", "add"), ("product", "square"), ("tanh",)))
    carriers = {name for name, texts in found.items() if "hec.seconds" in texts}
    assert carriers == {"add", "square", "tanh"}
    fused = {name: texts.get("hec.fused_with") for name, texts in found.items()}
    assert fused == {"add": "tanh", "product": None, "square": "product", "tanh": None}
    heavy = by_node(*deep(("add", "product", "gone"), ("square",), ("gone",)))
    assert "hec.seconds" in heavy["product"] and "hec.seconds" not in heavy["tanh"]
    assert heavy["add"]["hec.fused_into"] == "layer 1, whose costs stand at node 'product'"


def test_a_node_tells_what_the_report_does() -> None:
    plan, model = deep(("add",), ("square",), ("tanh",))
    server = report(plan).server
    assert server is not None
    fits = {
        "function": "relu", "degree": "3", "interval": "[-3, 3]", "observed": "[-2.5, 2]",
        "fit_error": "0.01",
    }  # fmt: skip
    found = by_node(plan, model)
    for number, layer in enumerate(server.layers, 1):
        name = ("add", "square", "tanh")[number - 1]
        assert found[name] == {
            f"hec.{key}": value
            for key, value in {
                "layer": f"{number} '{layer.nodes}'",
                "operation": layer.operation,
                "depth": str(number),
                "level_in": str(layer.level_in),
                "level_out": str(layer.level_out),
                "scale_bits": f"{layer.scale_bits:.1f}",
                "seconds": f"{layer.seconds:.4g}",
                "share_percent": f"{100 * layer.seconds / server.seconds:.1f}",
                "rotations": str(layer.rotations),
                "bootstraps": "0",
                "ciphertexts": "2",
                "weights_bytes": str(layer.plaintext_bytes),
                "precision_bits": f"{layer.precision_bits:.1f}",
                **(fits if name == "tanh" else {}),
            }.items()
        }


def test_a_node_of_several_layers_tells_of_all() -> None:
    plan, model = deep(*[("product",)] * 3)
    server = report(plan).server
    assert server is not None
    layers, found = server.layers, by_node(plan, model)["product"]
    for key, value in {
        "layer": "1 'conv'; 2 'square'; 3 'tanh'",
        "operation": "matrix; square; polynomial of degree 3",
        "depth": "3",
        "level_in": "4",
        "level_out": "1",
        "scale_bits": f"{layers[-1].scale_bits:.1f}",
        "seconds": f"{sum(x.seconds for x in layers):.4g}",
        "rotations": str(sum(x.rotations for x in layers)),
        "weights_bytes": str(server.plaintext_bytes),
        "precision_bits": f"{layers[-1].precision_bits:.1f}",
        "function": "relu",
    }.items():
        assert found[f"hec.{key}"] == value
    assert "hec.fused_with" not in found


def test_the_network_as_a_whole_tells_what_the_report_does() -> None:
    plan, model = deep(("add",), ("square",), ("tanh",))
    whole = report(plan)
    server = whole.server
    assert server is not None
    assert told(annotated(plan, model)) == {
        "hec.version": version("hec"),
        "hec.plan": plan.plan_id,
        "hec.backend": "tenseal",
        "hec.security_bits": "128",
        "hec.ring_degree": "8192",
        "hec.modulus_bits": f"{whole.parameters.modulus_bits:.0f}",
        "hec.depth": "3",
        "hec.bootstraps": "0",
        "hec.seconds": f"{server.seconds:.4g}",
        "hec.memory_bytes": str(server.memory.peak),
        "hec.key_bytes": str(whole.key_bytes),
        "hec.precision_bits": f"{whole.precision_bits:.1f}",
    }
    unclassed = replace(plan.server, calibrated=CalibrationResult(10, None, 0.01))
    assert "hec.agreement" not in told(annotated(Plan.of(plan.client, unclassed), model))
    classed = replace(plan.server, calibrated=CalibrationResult(10, 0.9, 0.01))
    agreement = told(annotated(Plan.of(plan.client, classed), model))["hec.agreement"]
    assert agreement == "0.9000 of 10 calibration samples"


def test_every_cost_stands_at_one_node(averaging: tuple[ModelProto, Plan], mlp: Plan) -> None:
    for model, plan in (averaging, (onnx.load(MLP), mlp)):
        proto = annotated(plan, model)
        server = report(plan).server
        assert server is not None
        nodes = [told(node) for node in proto.graph.node]
        for key, whole in (
            ("seconds", sum(x.seconds for x in server.layers)),
            ("rotations", sum(x.rotations for x in server.layers)),
            ("weights_bytes", server.plaintext_bytes),
        ):
            found = sum(float(node.get(f"hec.{key}", 0)) for node in nodes)
            assert found == pytest.approx(whole, rel=1e-3)
        carried = [
            x for node in nodes if "hec.seconds" in node for x in node["hec.layer"].split("; ")
        ]
        assert len(carried) == len(set(carried)) == len(server.layers)


def test_a_node_tells_levels_scale_degree_and_interval(
    averaging: tuple[ModelProto, Plan],
) -> None:
    model, plan = averaging
    nodes = {node.name: told(node) for node in annotated(plan, model).graph.node}
    act, fit = nodes["act"], plan.server.fits[0].fit
    assert (act["hec.function"], act["hec.degree"]) == ("relu", "2")
    assert act["hec.interval"] == f"[{fit.interval[0]:.4g}, {fit.interval[1]:.4g}]"
    assert act["hec.operation"] == "square"
    assert int(act["hec.level_in"]) >= int(act["hec.level_out"])
    assert nodes["conv"]["hec.operation"] == "matrix"
    assert float(nodes["conv"]["hec.scale_bits"]) > 10
    depths = [int(nodes[name]["hec.depth"]) for name in ("conv", "act", "fc")]
    assert depths == sorted(depths) and depths[-1] > 0


def test_fused_nodes_name_their_layer(averaging: tuple[ModelProto, Plan]) -> None:
    model, plan = averaging
    nodes = {node.name: told(node) for node in annotated(plan, model).graph.node}
    carriers = [name for name, texts in nodes.items() if "hec.seconds" in texts]
    others = set(nodes) - set(carriers)
    assert "flatten" in others
    free = "none: constant, moved for free, or left to the client"
    assert nodes["flatten"] == {"hec.layer": free}
    fused = [texts for texts in nodes.values() if "hec.fused_into" in texts]
    assert len(fused) == 1
    assert "whose costs stand at node '" in fused[0]["hec.fused_into"]


def test_the_network_as_a_whole_is_told(mlp: Plan) -> None:
    found = told(annotated(mlp, onnx.load(MLP)))
    assert found["hec.plan"] == mlp.plan_id
    assert found["hec.ring_degree"] == str(mlp.client.parameters.ring_degree)
    assert found["hec.bootstraps"] == "0"
    assert found["hec.agreement"].endswith(" of 64 calibration samples")


def test_bootstraps_are_counted() -> None:
    plan = plan_of(refreshing_program(parameters(15)), backend="openfhe")
    labels = ("", *["relu1"] * 2, *["fc"] * 2, *["relu2"] * 2, "")
    nodes = [node("Relu", "x", "a", name="relu1"), node("Relu", "a", "y", name="relu2")]
    proto = annotated(labelled(plan, labels), network(nodes, {"x": (1, 8)}))
    assert told(proto)["hec.bootstraps"] == "2"


def test_a_doc_string_tells_the_same_to_older_tools(averaging: tuple[ModelProto, Plan]) -> None:
    model, plan = averaging
    model = ModelProto.FromString(model.SerializeToString())
    model.graph.node[0].doc_string = "the first layer"
    node = annotated(plan, model).graph.node[0]
    own, line = node.doc_string.split("\n")
    assert own == "the first layer"
    assert line.startswith("hec: layer 1 'conv")
    assert f"level_in {told(node)['hec.level_in']}" in line


def test_annotating_again_replaces_what_was_written(averaging: tuple[ModelProto, Plan]) -> None:
    model, plan = averaging
    model = ModelProto.FromString(model.SerializeToString())
    model.graph.node[0].metadata_props.add(key="exporter", value="kept")
    model.metadata_props.add(key="author", value="kept")
    once = annotated(plan, model)
    assert told(once.graph.node[0])["exporter"] == "kept"
    assert told(once)["author"] == "kept"
    assert annotated(plan, once).SerializeToString() == once.SerializeToString()
    assert not told(model.graph.node[0]).keys() - {"exporter"}  # the original is not touched


def test_weights_in_another_file_come_along(
    averaging: tuple[ModelProto, Plan], tmp_path: Path
) -> None:
    model, plan = averaging
    path = tmp_path / "model.onnx"
    copy = ModelProto.FromString(model.SerializeToString())
    onnx.save_model(copy, path, save_as_external_data=True, location="weights", size_threshold=0)
    weights = (tmp_path / "weights").read_bytes()
    (tmp_path / "elsewhere").mkdir()
    annotate(plan, path, tmp_path / "elsewhere" / "out.onnx")
    after = (tmp_path / "elsewhere" / "out.onnx").read_bytes()
    assert_same_network(model.SerializeToString(), after, samples(3))
    assert (tmp_path / "weights").read_bytes() == weights


def test_two_nodes_of_one_name_have_costs_once(averaging: tuple[ModelProto, Plan]) -> None:
    model, plan = averaging
    model = ModelProto.FromString(model.SerializeToString())
    model.graph.node[3].name = "conv"  # Flatten's
    nodes = [told(node) for node in annotated(plan, model).graph.node]
    assert "hec.seconds" in nodes[0]
    assert "hec.seconds" not in nodes[3]


def test_the_network_is_never_replaced(averaging: tuple[ModelProto, Plan], tmp_path: Path) -> None:
    model, plan = averaging
    path, link = tmp_path / "model.onnx", tmp_path / "link.onnx"
    onnx.save_model(model, path)
    link.hardlink_to(path)
    before = path.read_bytes()
    for target in (path, link):
        with pytest.raises(CompileError) as caught:
            annotate(plan, path, target)
        assert str(caught.value) == (
            f"the annotated network would replace the network\n  --> {target}\n"
            "  help: give another path"
        )
    assert path.read_bytes() == before


def test_another_network_is_refused(mlp: Plan) -> None:
    with pytest.raises(CompileError) as caught:
        annotated(mlp, pooled("AveragePool"), "pooled.onnx")
    output = mlp.client.outputs[0].name
    assert str(caught.value) == (
        f"the network is not the one that was compiled, {mlp.client.model}\n"
        "  --> pooled.onnx: outputs 'y'\n"
        f"  help: the plan has outputs '{output}'"
    )


def test_a_network_too_large_for_one_file_is_refused(
    averaging: tuple[ModelProto, Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, plan = averaging
    onnx.save_model(model, tmp_path / "model.onnx")
    size = annotated(plan, model).ByteSize()
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 1000)
    with pytest.raises(CompileError) as caught:
        annotate(plan, tmp_path / "model.onnx", tmp_path / "out.onnx")
    assert str(caught.value) == (
        f"the network is too large for one file: {size:,} bytes, and ONNX allows 1,000\n"
        f"  --> {tmp_path / 'out.onnx'}\n"
        "  help: leave out --annotate: hec report and hec explain tell the same"
    )
    assert not (tmp_path / "out.onnx").exists()


def test_the_command_writes_it_beside_the_plan(
    mnist_calibration: NDArray[np.float32], tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", mnist_calibration[:16])
    arguments = ("compile", MLP, "-o", tmp_path / "mlp.hec", "--calibration", tmp_path / "x.npy")
    run = hec(*arguments, "--annotate", tmp_path / "out.onnx")
    assert run.exit_code == 0, run.stderr
    found = told(onnx.load(tmp_path / "out.onnx"))
    assert found["hec.plan"] == Plan.load(tmp_path / "mlp.hec").plan_id
    run = hec(*arguments, "--annotate", tmp_path / "mlp.hec")
    assert (run.exit_code, run.stderr) == (
        2,
        "two outputs have one path\n"
        f"  --> {tmp_path / 'mlp.hec'}\n"
        "  help: give each a path of its own\n",
    )
    run = hec(*arguments, "--annotate", MLP)
    assert (run.exit_code, run.stderr) == (
        2,
        f"the output would replace the input\n  --> {MLP}\n"
        "  help: give another path after --annotate\n",
    )
