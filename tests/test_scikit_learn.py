"""Estimators of scikit-learn, fitted on its own data: the plan predicts what they predict."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from skl2onnx import to_onnx
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import LinearSVC

import hec
from cli_runner import hec as run_hec
from hec.compiler.check import CheckData, check
from hec.compiler.clear_model import ClearModel
from hec.compiler.errors import CompileError
from hec.compiler.plan import Plan
from hec.compiler.target import Target

Array = NDArray[Any]

# A few hundred steps are enough for a test.
pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")


class Data(NamedTuple):
    """Features and targets, for fitting and for tests."""

    train: Array
    train_target: Array
    test: Array
    target: Array


def split(features: Array, target: Array) -> Data:
    tested = np.arange(len(features)) % 3 == 0
    features = features.astype(np.float32)
    return Data(features[~tested], target[~tested], features[tested], target[tested])


def load(loader: Any, texts: bool = False) -> Data:
    found = loader()
    target = found.target_names[found.target] if texts else found.target
    return split(found.data, target)


IRIS, FLOWERS = load(load_iris), load(load_iris, texts=True)
CANCER, TUMOURS = load(load_breast_cancer), load(load_breast_cancer, texts=True)
DIABETES = load(load_diabetes)
LINEAR = {
    "whole labels": (LogisticRegression(max_iter=500), IRIS),
    "texts": (LogisticRegression(max_iter=500), FLOWERS),
    "binary": (make_pipeline(StandardScaler(), LogisticRegression()), TUMOURS),
    "normalized": (make_pipeline(Normalizer(), LogisticRegression(C=100.0)), FLOWERS),
    "both": (make_pipeline(StandardScaler(), Normalizer("l1"), LogisticRegression()), CANCER),
    "svc": (make_pipeline(StandardScaler(), LinearSVC()), CANCER),
    "svc of three": (LinearSVC(max_iter=20_000), FLOWERS),
    "ridge": (RidgeClassifier(), IRIS),
    "sgd": (make_pipeline(StandardScaler(), SGDClassifier("log_loss", random_state=0)), CANCER),
}  # fmt: skip


def compiled(estimator: Any, data: Data, target: Target | None = None) -> Plan:
    estimator.fit(data.train, data.train_target)
    plan: Plan = hec.compile(estimator, data.train, target)
    return plan


SHARE = 0.05  # of a probability: scores are exact to nine bits of their range, 0.1 to 0.2 here


@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_classifier_predicts_its_labels(name: str) -> None:
    estimator, data = LINEAR[name]
    plan = compiled(estimator, data)
    label, scores = hec.simulate(plan, data.test).values()
    assert label.dtype.kind == ("U" if data.target.dtype.kind in "OU" else "i")
    assert label.tolist() == estimator.predict(data.test).tolist()
    if hasattr(estimator, "predict_proba"):
        expected = estimator.predict_proba(data.test)
        np.testing.assert_allclose(scores, expected, rtol=0, atol=SHARE)
        assert plan.client.outputs[1].classes.names == tuple(estimator.classes_)
    found = check(plan, ClearModel.of_plan(plan), CheckData(data.test, data.target))
    assert found.passed and found.outputs[0].agreement == 1.0
    assert found.accuracy == found.model_accuracy == estimator.score(data.test, data.target)


@pytest.mark.parametrize("data", [TUMOURS, FLOWERS])
def test_a_perceptron_predicts_its_labels(data: Data) -> None:
    mlp = MLPClassifier((8,), activation="tanh", max_iter=300, random_state=0)
    estimator = make_pipeline(StandardScaler(), mlp)
    plan = compiled(estimator, data, Target(max_error=0.02))
    label, shares = hec.simulate(plan, data.test).values()
    assert (label == estimator.predict(data.test)).mean() >= 0.98
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=0, atol=1e-12)
    assert plan.client.outputs[1].classes.names == tuple(estimator.classes_)


def test_regressors_predict_their_targets() -> None:
    two = np.stack([DIABETES.train_target, -2.0 * DIABETES.train_target], axis=1)
    for estimator, target in ((Ridge(alpha=0.1), DIABETES.train_target), (LinearRegression(), two)):
        plan = compiled(estimator, DIABETES._replace(train_target=target))
        expected = estimator.predict(DIABETES.test)
        found = hec.simulate(plan, DIABETES.test).reshape(expected.shape)
        tolerance = 2.0**-8 * np.abs(expected).max()  # the promise: 8 bits below the range
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def test_a_perceptron_of_one_target_predicts_it() -> None:
    mlp = MLPRegressor(hidden_layer_sizes=(16,), max_iter=500, random_state=0)
    estimator = make_pipeline(StandardScaler(), mlp)
    plan = compiled(estimator, DIABETES)
    expected = estimator.predict(DIABETES.test)
    found = hec.simulate(plan, DIABETES.test)[:, 0]
    error = np.sqrt(np.mean((found - expected) ** 2))
    assert error < 0.1 * np.sqrt(np.mean(expected**2))  # the target's max_error


def test_an_estimator_gives_the_plan_of_its_onnx_file(tmp_path: Path) -> None:
    estimator = LogisticRegression(max_iter=500)
    plan = compiled(estimator, FLOWERS)
    file = to_onnx(estimator, FLOWERS.train[:1]).SerializeToString()
    assert hec.compile(file, calibration=FLOWERS.train).plan_id == plan.plan_id
    other = hec.compile(estimator, FLOWERS.train, calibration=10 * FLOWERS.train)
    assert other.client.inputs[0].interval[1] > 5 * plan.client.inputs[0].interval[1]


def test_a_data_frame_has_one_input_for_each_column() -> None:
    names = ["sepal length", "sepal width", "petal length", "petal width"]
    frame = pd.DataFrame(FLOWERS.train.astype(np.float64), columns=names)
    estimator = make_pipeline(StandardScaler(), LogisticRegression())
    estimator.fit(frame, FLOWERS.train_target)
    plan = hec.compile(estimator, frame)
    assert [item.shape for item in plan.client.inputs] == [(1, 1)] * 4
    samples = {item.name: FLOWERS.test[:, k : k + 1] for k, item in enumerate(plan.client.inputs)}
    label, _ = hec.simulate(plan, samples).values()
    test = pd.DataFrame(FLOWERS.test.astype(np.float64), columns=names)
    assert label.tolist() == estimator.predict(test).tolist()


def refused(estimator: Any, data: Any) -> str:
    with pytest.raises(CompileError) as caught:
        hec.compile(estimator, data)
    return str(caught.value)


def test_useless_training_data_is_named() -> None:
    fitted = LogisticRegression(max_iter=500).fit(IRIS.train, IRIS.train_target)
    place = "  --> estimator LogisticRegression\n"
    assert refused(fitted, None) == (
        "the training data is needed to export an estimator\n"
        f"{place}  help: give it: hec.compile(estimator, X)"
    )
    assert refused(fitted, IRIS.train[0]) == (
        "the training data has shape (4,)\n"
        f"{place}  help: give an array of shape (samples, features)"
    )
    assert refused(fitted, [["a", 1.0]]) == (
        "the training data holds more than numbers: could not convert string to float: 'a'\n"
        f"{place}  help: encode categories and fill in missing values before, and encrypt "
        "numbers only"
    )
    frame = pd.DataFrame({"a": ["x"], "b": [1.0]})
    assert refused(fitted, frame).startswith("the training data holds more than numbers: ")


def test_an_estimator_that_is_not_fitted_is_refused() -> None:
    message = refused(LogisticRegression(), IRIS.train)
    assert message.startswith("skl2onnx refuses the model: ")
    assert message.endswith(
        "\n  --> estimator LogisticRegression\n"
        "  help: export it by hand, and compile the .onnx file"
    )


def test_a_missing_exporter_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    assert refused(LogisticRegression(), IRIS.train) == (
        "scikit-learn estimators are read through skl2onnx, which is not installed\n"
        "  --> estimator LogisticRegression\n"
        '  help: pip install "hec[sklearn]"'
    )


def test_trees_are_refused_with_a_way_out() -> None:
    forest = RandomForestClassifier(3, random_state=0).fit(IRIS.train, IRIS.train_target)
    message = refused(forest, IRIS.train)
    assert message.startswith(
        "TreeEnsembleClassifier is not supported\n  --> ONNX(RandomForestClassifier): node "
    )
    assert message.endswith(
        "\n  help: trees compare, and encrypted numbers cannot be compared; "
        "use a linear model or an MLP"
    )


@pytest.fixture(scope="module")
def flowers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flowers")
    compiled(LogisticRegression(max_iter=500), FLOWERS).save(folder / "iris.hec")
    np.save(folder / "samples.npy", FLOWERS.test)
    np.save(folder / "labels.npy", FLOWERS.target.astype(np.str_))
    np.save(folder / "numbers.npy", IRIS.target)
    return folder


def test_the_command_line_checks_labels_that_are_texts(flowers: Path) -> None:
    plan, samples = flowers / "iris.hec", flowers / "samples.npy"
    run = run_hec("check", plan, "--data", samples, "--labels", flowers / "labels.npy")
    assert run.exit_code == 0, run.stderr
    assert "100.00 %" in run.stdout and "accuracy" in run.stdout
    run = run_hec("check", plan, "--data", samples, "--labels", flowers / "numbers.npy")
    assert run.exit_code == 2
    assert "labels of type int64 and shape (50,) do not fit 50 samples" in run.stderr
    assert "give one text, the class, for each sample" in run.stderr


def test_the_report_says_which_column_is_which_class(flowers: Path) -> None:
    run = run_hec("report", flowers / "iris.hec")
    shown = " ".join(run.stdout.split())  # lines are broken to fit
    assert shown.count("classes setosa, versicolor, virginica") == 2
    run = run_hec("report", flowers / "iris.hec", "--json")
    assert run.stdout.count('"virginica"') == 2


def test_a_network_of_other_classes_is_refused(flowers: Path, tmp_path: Path) -> None:
    other = LogisticRegression(max_iter=500).fit(IRIS.train, FLOWERS.train_target + "s")
    file = to_onnx(other, IRIS.train[:1]).SerializeToString()
    plan = Plan.load(flowers / "iris.hec")
    with pytest.raises(CompileError) as caught:
        check(plan, ClearModel(file, "other.onnx"), CheckData(IRIS.test))
    assert str(caught.value) == (
        "the output 'output_probability' has other classes than the plan\n"
        "  --> other.onnx\n"
        "  help: give the network that was compiled with --model"
    )


@pytest.mark.encrypted
def test_labels_and_probabilities_on_real_ciphertexts(flowers: Path, tmp_path: Path) -> None:
    plan, keys = flowers / "iris.hec", tmp_path / "keys"
    np.save(tmp_path / "x.npy", FLOWERS.test[40])
    assert run_hec("keygen", plan, "-o", keys).exit_code == 0
    for command in (
        ("encrypt", plan, "--keys", keys, tmp_path / "x.npy", "-o", tmp_path / "x.enc"),
        ("run", plan, "--keys", keys / "evaluation.key", tmp_path / "x.enc", "-o", tmp_path / "y"),
        ("decrypt", plan, "--keys", keys, tmp_path / "y", "-o", tmp_path / "y.npz"),
    ):
        run = run_hec(*command)
        assert run.exit_code == 0, run.stderr
    clear = ClearModel.of_plan(Plan.load(plan))
    expected = clear.predict(Plan.load(plan), {"X": FLOWERS.test[40:41]})
    with np.load(tmp_path / "y.npz") as found:  # texts, and no pickle
        assert found["output_label"].tolist() == expected["output_label"][0].tolist()
        np.testing.assert_allclose(
            found["output_probability"], expected["output_probability"][0], rtol=0, atol=0.02
        )


@pytest.mark.encrypted
@pytest.mark.parametrize("name", ["normalized", "binary"])
def test_classifiers_on_real_ciphertexts(name: str) -> None:
    estimator, data = LINEAR[name]
    plan = compiled(estimator, data)
    client = hec.Client(plan)
    server = hec.Server(plan, client.evaluation_keys())
    for x in data.test[:5]:
        label, shares = client.decrypt(server.run(client.encrypt(x))).values()
        assert label.tolist() == estimator.predict(x[None]).tolist()
        np.testing.assert_allclose(shares, estimator.predict_proba(x[None]), rtol=0, atol=0.02)


@pytest.mark.encrypted
def test_a_regressor_on_real_ciphertexts() -> None:
    estimator = Ridge(alpha=0.1)
    plan = compiled(estimator, DIABETES)
    client = hec.Client(plan)
    server = hec.Server(plan, client.evaluation_keys())
    for x in DIABETES.test[:3]:
        found = client.decrypt(server.run(client.encrypt(x)))
        error = np.abs(found - estimator.predict(x[None])).max()
        assert error < 2.0**-plan.client.precision + 1e-4  # onnxruntime's float32, too
