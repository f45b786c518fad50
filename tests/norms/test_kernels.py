"""The fused kernels: the formulas again, their gradients, and what torch asks of an operator.

Both operator sets pass the same tests: C++ on CPU, and Triton on a GPU when there is one, else in
Triton's interpreter (conftest.py asks for it).
"""

import math
import multiprocessing
import os
import shutil
import subprocess
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch

from normlab.errors import UserError
from normlab.norms import LayerNorm, PRMSNorm, RMSNorm, kernels
from normlab.norms.functional import layer_norm, prms_norm
from normlab.norms.kernels import cpu

cpp = pytest.mark.skipif(cpu.load() is not None, reason=f"no kernels: {cpu.load()}")
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")


@pytest.fixture(
    params=[
        pytest.param("cpp", marks=cpp),
        pytest.param("triton", marks=[triton, pytest.mark.slow]),  # the interpreter's time
    ]
)
def ops(request):
    """The operators; new tensors lie on their device."""
    if request.param == "cpp":
        return torch.ops.normlab
    import normlab.norms.kernels.gpu  # noqa: F401 - registers them

    if torch.cuda.is_available():
        torch.set_default_device("cuda")
        request.addfinalizer(lambda: torch.set_default_device(None))
    return torch.ops.normlab_triton


EPS = 1e-6
NORMS = {  # name: (k of n = 37, centre)
    "layernorm": (37, True),
    "rmsnorm": (37, False),
    "prmsnorm": (5, False),
    "prmsnorm, k over a vector": (19, False),
}
INPUTS = {
    "random": lambda: torch.randn(11, 37),
    "three dimensions": lambda: torch.randn(3, 5, 37),
    "tiny": lambda: torch.randn(4, 37) * 1e-6,
    "huge": lambda: torch.randn(4, 37) * 1e15,
    "constant": lambda: torch.full((4, 37), 3.0),
    "zero": lambda: torch.zeros(4, 37),
    "far from zero": lambda: torch.randn(4, 37) + 1000,
    "strided": lambda: torch.randn(37, 8).t(),
    "strided rows": lambda: torch.randn(8, 74)[:, ::2],
    "empty": lambda: torch.randn(0, 37),
    "many rows": lambda: torch.randn(3001, 37),
    "one row": lambda: torch.randn(37),
}


def reference(x, gain, bias, k, centre):
    """The formula in fp64, differentiated by autograd."""
    x, gain, bias = (None if t is None else t.double() for t in (x, gain, bias))
    return layer_norm(x, gain, bias, EPS) if centre else prms_norm(x, gain, bias, EPS, k)


def parameters(n, dtype=torch.float32):
    return (torch.rand(n, dtype=dtype) + 0.5).requires_grad_(), torch.randn(
        n, dtype=dtype
    ).requires_grad_()


def gradcheck(function, inputs, ops):
    """Triton's interpreter takes 10 ms a call: there one direction is tried, not every input."""
    return torch.autograd.gradcheck(function, inputs, fast_mode=ops is not torch.ops.normlab)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("given", INPUTS)
def test_values_and_gradients_are_those_of_the_formula(name, given, ops):
    k, centre = NORMS[name]
    gain, bias = parameters(37)
    x = INPUTS[given]().requires_grad_()
    dy = torch.randn_like(x)
    y = ops.norm(x, gain, bias, EPS, k, centre)[0]
    expected = reference(x, gain, bias, k, centre)
    assert y.dtype == x.dtype and y.shape == x.shape
    close = {"rtol": 2e-4, "atol": 2e-4}
    if given == "constant" and centre:  # 0 / 0 up to eps: rounding of the mean times 1 / sqrt(eps)
        close["atol"] = 2e-3
    if given == "far from zero" and y.is_cuda:  # where Triton's division and root are not exact
        close["atol"] = 1e-3
    torch.testing.assert_close(y.double(), expected, **close)
    ours = torch.autograd.grad(y, (x, gain, bias), dy)
    theirs = torch.autograd.grad(expected, (x, gain, bias), dy.double())
    for got, want in zip(ours, theirs, strict=True):
        scale = want.abs().max().clamp(min=1e-30) if want.numel() else 1
        if given == "constant" and y.is_cuda:  # 0 up to that rounding
            scale = scale.clamp(min=1)
        torch.testing.assert_close((got / scale), (want / scale).to(got.dtype), rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize(("with_gain", "with_bias"), [(True, True), (True, False), (False, False)])
def test_gradcheck_in_fp64(name, with_gain, with_bias, ops):
    k, centre = NORMS[name]
    gain, bias = parameters(37, torch.float64)
    inputs = [torch.randn(3, 37, dtype=torch.float64, requires_grad=True)]
    inputs += [gain] * with_gain + [bias] * with_bias

    def function(x, gain=None, bias=None):
        return ops.norm(x, gain, bias, EPS, k, centre)[0]

    assert gradcheck(function, inputs, ops)


@pytest.mark.parametrize("name", NORMS)
def test_the_fused_sum_is_the_norm_of_the_sum_and_passes_both_gradients_on(name, ops):
    k, centre = NORMS[name]
    gain, bias = parameters(37, torch.float64)
    x, residual = (torch.randn(3, 37, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def function(x, residual, gain, bias):
        y, total, _ = ops.add_norm(x, residual, gain, bias, EPS, k, centre)
        return y, total

    y, total = function(x, residual, gain, bias)
    torch.testing.assert_close(total, x + residual)
    torch.testing.assert_close(y, reference(x + residual, gain, bias, k, centre))
    assert gradcheck(function, (x, residual, gain, bias), ops)


@pytest.mark.parametrize("scale", [1, 300])  # squares of the second overflow fp16
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", NORMS)
def test_half_precision_has_fp32_statistics_and_keeps_its_dtype(name, dtype, scale, ops):
    """To the last digit of the formula in fp64: statistics of the dtype would not give that."""
    k, centre = NORMS[name]
    gain, bias = parameters(37)
    x = (scale * (torch.randn(64, 37) + 3)).to(dtype).requires_grad_()
    y = ops.norm(x, gain, bias, EPS, k, centre)[0]
    assert y.dtype == dtype
    expected = reference(x, gain, bias, k, centre)
    last = {"rtol": torch.finfo(dtype).eps, "atol": 1e-5}
    torch.testing.assert_close(y, expected.to(dtype), **last)
    dy = torch.randn_like(x)
    got = torch.autograd.grad(y, (x, gain, bias), dy)
    want = torch.autograd.grad(expected, (x, gain, bias), dy.double())
    assert [g.dtype for g in got] == [dtype, torch.float32, torch.float32]
    torch.testing.assert_close(got[0], want[0].to(dtype), **last)
    for g, w in zip(got[1:], want[1:], strict=True):
        torch.testing.assert_close(g.double(), w.double(), rtol=1e-4, atol=1e-4)


@cpp
def test_bf16_is_rounded_as_torch_rounds_it():
    every = torch.arange(-(2**15), 2**15).to(torch.int16).view(torch.bfloat16).view(-1, 64)
    for other in (every.flip(0), every.roll(7, 1), torch.full_like(every, 2**-60)):
        total = torch.ops.normlab.add_norm(every, other, None, None, EPS, 64, False)[1]
        assert torch.equal(total.isnan(), (every + other).isnan())
        assert torch.equal(total.nan_to_num(), (every + other).nan_to_num())


def test_a_large_output_takes_the_streaming_path(ops):
    x = torch.randn(6000, 320)  # 7.7 MB
    gain, _ = parameters(320)
    y = ops.norm(x, gain, None, EPS, 320, False)[0]
    torch.testing.assert_close(
        y.double(), reference(x, gain, None, 320, False), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_inputs_come_out_as_such(bad, ops):
    x = torch.randn(3, 37)
    x[1, 4] = bad
    y = ops.norm(x, None, None, EPS, 37, False)[0]
    assert y[1].isnan().any() and y[[0, 2]].isfinite().all()


def test_a_square_beyond_the_range_counts_only_among_the_first_k(ops):
    x = torch.ones(2, 128)
    x[0, 9] = 1e20  # its square is infinite in fp32
    x.requires_grad_()
    y = ops.norm(x, None, None, EPS, 8, False)[0]
    torch.testing.assert_close(y, x / math.sqrt(1 + EPS))
    (dx,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert dx.isfinite().all()
    torch.testing.assert_close(dx[:, 8:], torch.full((2, 120), 1 / math.sqrt(1 + EPS)))


@cpp
def test_the_same_bits_for_any_number_of_threads():
    x, (gain, bias), dy = torch.randn(4000, 64), parameters(64), torch.randn(4000, 64)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            y = torch.ops.normlab.norm(x, gain, bias, EPS, 64, True)[0]
            results.append((y, *torch.autograd.grad(y, (gain, bias), dy)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.slow
def test_torch_accepts_the_operators(ops):
    x, gain, bias = torch.randn(5, 37, requires_grad=True), *parameters(37)
    torch.library.opcheck(ops.norm, (x, gain, bias, EPS, 37, True))
    torch.library.opcheck(ops.norm, (x, gain, None, EPS, 5, False))
    torch.library.opcheck(ops.add_norm, (x, x.detach(), gain, bias, EPS, 37, True))


@pytest.mark.slow
@pytest.mark.parametrize(
    "device", [pytest.param("cpu", marks=cpp), pytest.param("cuda", marks=gpu)]
)
def test_compiled_code_sees_one_node(device):
    norm, graphs = RMSNorm(8, impl="fused").to(device), []

    def backend(graph, _):
        graphs.append([node.name for node in graph.graph.nodes if node.op == "call_function"])
        return graph

    compiled = torch.compile(norm, backend=backend, fullgraph=True)
    x = torch.randn(4, 8, device=device)
    torch.testing.assert_close(compiled(x), norm(x))
    assert len([name for name in graphs[0] if "norm" in name]) == 1


def test_a_second_derivative_is_refused_not_wrong(ops):
    x = torch.randn(3, 8, requires_grad=True)
    y = ops.norm(x, None, None, EPS, 8, False)[0]
    (dx,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="composed"):
        dx.sum().backward()


@cpp
@pytest.mark.parametrize("kind", [LayerNorm, RMSNorm, PRMSNorm])
def test_auto_takes_them_and_autocast_does_not_matter(kind):
    norm, x = kind(16), torch.randn(2, 16, dtype=torch.bfloat16)
    assert norm.implementation(x.device) == "fused"
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(norm(x), kind(16, impl="fused")(x))


@pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="no compiler")
def test_where_there_is_a_compiler_there_are_kernels():
    assert cpu.load() is None  # else all their tests would be left out


@triton
def test_where_triton_cannot_launch_kernels_the_gpu_has_none(monkeypatch, caplog):
    from normlab.norms.kernels import gpu

    def fail(*_):
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", lambda *_, **__: None)  # there may be no GPU
    monkeypatch.setattr(gpu, "norm", fail)
    monkeypatch.setattr(kernels, "_problems", {})
    gpu.launch_problem.cache_clear()
    try:
        why = "Triton cannot launch kernels here (Failed to find C compiler)"
        assert kernels.problem("cuda", 7) == kernels.problem("cuda", 8) == why
        assert caplog.text.count(why) == 1
    finally:
        gpu.launch_problem.cache_clear()


def test_no_kernel_centres_and_measures_a_part():
    class PartialLayerNorm(LayerNorm):
        def measured(self, n):
            return n // 2

    assert PartialLayerNorm(8).implementation(torch.device("cpu")) == "native"
    with pytest.raises(UserError, match="subtracts a mean and measures only some inputs"):
        PartialLayerNorm(8, impl="fused").implementation(torch.device("cpu"))


def test_without_a_compiler_auto_falls_back_and_fused_says_why(monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("NORMLAB_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    problem = cpu.load.__wrapped__()
    assert "no-such-compiler" in problem and "No fused norms here" in caplog.text
    monkeypatch.setattr(kernels, "problem", lambda device, dim=1: problem)
    assert RMSNorm(8)(torch.ones(2, 8)).shape == (2, 8)
    assert RMSNorm(8).implementation(torch.device("cpu")) == "composed"
    with pytest.raises(UserError, match="no-such-compiler.*impl=auto"):
        RMSNorm(8, impl="fused")(torch.ones(2, 8))


X = torch.ones(5, 8)
STATISTICS = torch.ones(5)
WRONG = {  # name: (operator, arguments, what the error says)
    "gain": ("norm", (X, X[0, :4], None, EPS, 8, False), r"gain must be \[8\], got \[4\]"),
    "gain of two rows": ("norm", (X, X[:2], None, EPS, 8, False), r"gain must be \[8\], got \[2"),
    "bias": ("norm", (X, None, X[0, :4], EPS, 8, True), r"bias must be \[8\], got \[4\]"),
    "integers": ("norm", (X, X[0].int(), None, EPS, 8, False), "gain must have a floating-point"),
    "k": ("norm", (X, None, None, EPS, 9, False), r"k must lie in 1 ... 8, got 9"),
    "no k": ("norm", (X, None, None, EPS, 0, False), r"k must lie in 1 ... 8, got 0"),
    "no axis": ("norm", (X[0, 0], None, None, EPS, 1, False), r"x must be \(..., n\) with n >= 1"),
    "no inputs": ("norm", (X[:, :0], None, None, EPS, 1, False), r"x must be \(..., n\) with n >="),
    "residual": ("add_norm", (X, X[:1], None, None, EPS, 8, False), r"residual must be \[5, 8\]"),
    "residual's dtype": (
        "add_norm",
        (X, X.double(), None, None, EPS, 8, False),
        "residual must have .*[Ff]loat",
    ),
    "dy": ("norm_backward", (X[:4], X, None, STATISTICS, 8, False, False), r"dy must be \[5, 8\]"),
    "statistics": (
        "norm_backward",
        (X, X, None, STATISTICS[:4], 8, False, False),
        r"statistics must be \[5\]",
    ),
    "no mean": (
        "norm_backward",
        (X, X, None, STATISTICS, 8, True, False),
        r"statistics must be \[2, 5\]",
    ),
    "statistics' dtype": (
        "norm_backward",
        (X, X, None, STATISTICS.half(), 8, False, False),
        "statistics must have",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_arguments_that_do_not_fit_are_refused(name, ops):
    operator, arguments, message = WRONG[name]
    device = torch.get_default_device()
    given = [a.to(device) if isinstance(a, torch.Tensor) else a for a in arguments]
    with pytest.raises(RuntimeError, match=message):
        getattr(ops, operator)(*given)


@cpp
def test_tensors_of_two_devices_are_refused():
    x, meta = torch.ones(2, 8), torch.ones(8, device="meta")
    with pytest.raises(RuntimeError, match="all must be on cpu, got meta"):
        torch.ops.normlab.norm(x, meta, None, EPS, 8, False)
    with pytest.raises(RuntimeError, match="all must be on cpu, got meta"):
        torch.ops.normlab.add_norm(x, x.to("meta"), None, None, EPS, 8, False)


@triton
def test_triton_refuses_rows_that_no_program_can_hold():
    import normlab.norms.kernels.gpu  # noqa: F401 - registers them

    with pytest.raises(RuntimeError, match="at most 16384 inputs, not 16385"):
        torch.ops.normlab_triton.norm(torch.ones(1, 16385), None, None, EPS, 16385, False)


COMPILER = """#!/bin/sh
# Stands for a compiler that takes 0.3 seconds and says how often it linked.
case "$*" in
  --version) echo "a compiler" ;;
  *-shared*) sleep 0.3; echo linked >> "$LINKED" ;;
esac
while [ $# -gt 1 ]; do
  if [ "$1" = -o ]; then echo "the kernels" > "$2"; fi
  shift
done
"""


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """A quick compiler; `compiler.linked()` says how many libraries it has made."""
    script, record = tmp_path / "compiler", tmp_path / "linked"
    script.write_text(COMPILER)
    script.chmod(0o755)
    monkeypatch.setenv("NORMLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LINKED", str(record))

    def linked():
        return len(record.read_text().splitlines()) if record.exists() else 0

    return SimpleNamespace(path=str(script), linked=linked)


def test_a_library_is_built_once_and_then_found(compiler):
    path = cpu.library(compiler.path)
    assert path.read_text() == "the kernels\n"
    assert cpu.library(compiler.path) == path
    assert compiler.linked() == 1


@pytest.mark.parametrize("left", [b"", b"the ker", b"other bytes!", None])
def test_a_damaged_library_is_built_again(compiler, left):
    path = cpu.library(compiler.path)
    if left is None:
        path.with_suffix(".sha256").unlink()
    else:
        path.write_bytes(left)
    assert cpu.library(compiler.path) == path
    assert path.read_text() == "the kernels\n"
    assert compiler.linked() == 2


def test_of_processes_that_start_together_one_builds(compiler):
    forks = multiprocessing.get_context("fork")
    found = forks.Queue()
    started = [
        forks.Process(target=lambda: found.put(cpu.library(compiler.path))) for _ in range(3)
    ]
    for process in started:
        process.start()
    assert len({found.get(timeout=300) for _ in started}) == 1 and compiler.linked() == 1
    for process in started:
        process.join()


def test_without_a_compiler_a_library_of_these_sources_is_used_if_it_is_whole(compiler):
    path = cpu.library(compiler.path)
    assert cpu.library("no-such-compiler") == path
    path.write_bytes(b"cut short")
    with pytest.raises(FileNotFoundError, match="no-such-compiler"):
        cpu.library("no-such-compiler")


def test_another_compiler_has_its_own_library(compiler, tmp_path):
    other = tmp_path / "other"
    other.write_text(COMPILER.replace("a compiler", "another compiler"))
    other.chmod(0o755)
    assert cpu.library(str(other)) != cpu.library(compiler.path)


def test_a_compiler_error_is_reported_by_its_line(monkeypatch, tmp_path):
    def fail(command):
        if "--version" in command:
            return "1"
        raise subprocess.CalledProcessError(1, command, stderr="x\nnorms.cpp:1: error: no header\n")

    monkeypatch.setenv("NORMLAB_CACHE", str(tmp_path))
    monkeypatch.setattr(cpu, "_run", fail)
    assert "error: no header" in cpu.load.__wrapped__()
    assert not list((tmp_path / "kernels").glob("*.so"))
