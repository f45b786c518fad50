"""Random calls of the fused norms: each gives the result of the composed norm, or a clear error.

Run as a script, in a process of its own, which a memory error would end: `fuzz.py CASES SEED`.
Prints how many calls of each kind gave a result and how many an error, as JSON.
"""

import json
import math
import random
import sys
from collections import Counter

import torch
from torch import Tensor

from normlab.errors import UserError
from normlab.norms import LayerNorm, PRMSNorm, RMSNorm, functional
from normlab.norms.kernels import cpu, shapes

EPS = 1e-2  # large, so that rows of one value have no rounding errors to blow up
FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
OTHERS = (torch.int64, torch.bool, torch.complex64)
TOLERANCE = {torch.float32: 2e-3, torch.float64: 1e-8, torch.bfloat16: 4e-2, torch.float16: 1e-2}
WIDTHS = (1, 2, 3, 7, 8, 16, 17, 33, 64, 300)
random_ = random.Random()


def tensor(shape, dtype):
    """Returns random values in one of many layouts of memory."""
    make = torch.randn if dtype in FLOATS or dtype.is_complex else torch.ones
    shape = list(shape)
    layout = random_.choice(("plain", "transposed", "expanded", "sliced", "shifted"))
    if layout == "transposed" and len(shape) > 1:
        i, j = random_.sample(range(len(shape)), 2)
        shape[i], shape[j] = shape[j], shape[i]
        return make(shape).to(dtype).transpose(i, j)
    if layout == "expanded" and shape:
        i = random_.randrange(len(shape))
        return make([*shape[:i], 1, *shape[i + 1 :]]).to(dtype).expand(shape)
    if layout == "sliced" and shape:
        i = random_.randrange(len(shape))
        larger = make([*shape[:i], 2 * shape[i] + 1, *shape[i + 1 :]]).to(dtype)
        return larger[(slice(None),) * i + (slice(1, None, 2),)]
    if layout == "shifted":
        count = torch.Size(shape).numel()
        return make(count + 1).to(dtype)[1:].view(shape)
    return make(shape).to(dtype)


def leading():
    sizes = [random_.choice((0, 1, 1, 2, 3, 5, 40)) for _ in range(random_.choice((0, 1, 1, 2, 3)))]
    # Gradients of parameters are sums over rows, and of more rows their rounding shows.
    return sizes if math.prod(sizes) <= 2000 else sizes[1:]


def close(got, want, dtype):
    """Raises AssertionError unless both are as equal as inputs of `dtype` allow.

    Differences are in relation to the largest value, and to 1: smaller gradients are differences
    of larger terms. What is finite on one side is so on the other, but near fp16's largest value.
    """
    assert (got is None) == (want is None)
    if got is None:
        return
    assert got.shape == want.shape, (got.shape, want.shape)
    tolerance = max(TOLERANCE.get(kind, 0) for kind in (dtype, got.dtype, want.dtype))
    half = torch.float16 in (dtype, got.dtype, want.dtype)
    got, want = got.double(), want.double()
    finite = got.isfinite() & want.isfinite()
    alike = got.isfinite() == want.isfinite()
    if half:  # sums of fp16 terms, which overflow in other places
        alike |= torch.where(got.isfinite(), got, want).abs() > 3e4
    assert alike.all()
    got, want = got[finite], want[finite]
    scale = want.abs().max().clamp(min=1) if want.numel() else 1
    torch.testing.assert_close(got / scale, want / scale, rtol=0, atol=tolerance)


def attempt(function):
    """Returns what `function` returns, or the message of a refusal; other errors come through."""
    try:
        return function()
    except (RuntimeError, UserError) as error:
        message = str(error).split("\n")[0]
        words = ("must", "take", "expected", "size", "shape", "dtype", "implemented", "Float")
        assert any(word in message for word in words), f"unclear: {message}"
        return message


def layer():
    """A module with the kernel and the same module without, right or wrong in size and dtype."""
    n = random_.choice(WIDTHS)
    kind = random_.choice((LayerNorm, RMSNorm, PRMSNorm))
    given = {"gain": random_.random() < 0.7, "bias": random_.random() < 0.4, "eps": EPS}
    if kind is PRMSNorm:
        given["p"] = random_.choice((0.01, 0.3, 1.0))
    fused, composed = kind(n, impl="fused", **given), kind(n, impl="composed", **given)
    if random_.random() < 0.2:
        fused, composed = fused.double(), composed.double()
    with torch.no_grad():
        for ours, theirs in zip(fused.parameters(), composed.parameters(), strict=True):
            theirs.copy_(ours.uniform_(-1, 2))
    right = random_.random() < 0.7
    dtype = random_.choice(FLOATS if right or random_.random() < 0.7 else OTHERS)
    width = n if right else random_.choice((0, 1, n, n + 1, 4 * n))
    x = tensor([*leading(), width], dtype) if right or random_.random() < 0.9 else torch.tensor(1.0)
    y = tensor(x.shape, dtype) if random_.random() < 0.4 else None
    if y is not None and y.dim() and random_.random() < 0.3:
        y = random_.choice(
            (y[..., :1], y[:1], tensor(y.shape, torch.float64), tensor([width + 1], dtype))
        )

    def call(norm):
        inputs = [t.detach().clone() if t is y else t.detach() for t in (x, y) if t is not None]
        if dtype in FLOATS:
            inputs = [t.requires_grad_() for t in inputs]
        out = norm(*inputs) if y is None else norm.of_sum(*inputs)
        if not out.requires_grad:
            return [out]
        dy = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
        wanted = [t for t in (*inputs, *norm.parameters()) if t.requires_grad]
        return [out, *torch.autograd.grad(out, wanted, dy)]

    got, want = attempt(lambda: call(fused)), attempt(lambda: call(composed))
    if isinstance(got, str):
        fits = x.dim() > 0 and x.shape[-1] == n and dtype in FLOATS
        assert isinstance(want, str) or not fits, f"refused what the composed norm takes: {got}"
        return "error"
    assert not isinstance(want, str), f"took what the composed norm refuses: {want}"
    for a, b in zip(got, want, strict=True):
        close(a, b, dtype)
    return "result"


def spoil(arguments, names):
    """Makes one argument wrong in size, rank or dtype, and returns its name."""
    name = random_.choice([name for name in names if arguments[name] is not None])
    value = arguments[name]
    if not isinstance(value, Tensor):  # k
        arguments[name] = random_.choice((-1, names[name] + 1, 2**62, -(2**62)))
        return name
    ways = ["longer", "shorter", "rank", "scalar", "dtype"]
    way = random_.choice(ways)
    shape = list(value.shape)
    if way == "dtype":
        other = torch.int64 if names[name] is None else names[name]
        arguments[name] = value.to(other)
    elif way == "rank":
        arguments[name] = value[None]
    elif way == "scalar" or not shape:
        arguments[name] = value.new_ones((1,) * (value.dim() + 2))
    else:
        i = random_.randrange(len(shape))
        longer = way == "longer" or shape[i] == 0
        shape[i] = shape[i] + random_.choice((1, 2, 50)) if longer else shape[i] - 1
        arguments[name] = value.new_ones(shape)
    return name


def parameters(n, dtype):
    gain = tensor([n], random_.choice((dtype, torch.float32))) if random_.random() < 0.7 else None
    bias = tensor([n], random_.choice((dtype, torch.float32))) if random_.random() < 0.4 else None
    return gain, bias


def operator(ops):
    """norm, add_norm and norm_backward as they are called, all right or with one wrong argument."""
    n, dtype, centre = random_.choice(WIDTHS), random_.choice(FLOATS), random_.random() < 0.5
    shape = [*leading(), n]
    k = n if centre else random_.randint(1, n)
    x = tensor(shape, dtype)
    gain, bias = parameters(n, dtype)
    other = torch.float32 if dtype == torch.float64 else torch.float64
    sort = random_.choice(("norm", "add_norm", "norm_backward"))
    spoilt = random_.random() < 0.6
    if sort == "norm_backward":
        rows = x.numel() // n
        a = x.double()
        mean = a.mean(-1, keepdim=True) if centre else a.new_zeros(())
        r = 1 / ((a - mean)[..., :k].square().mean(-1, keepdim=True) + EPS).sqrt()
        parts = [t.reshape(rows) for t in ((r, mean) if centre else (r,))]
        statistics = torch.stack(parts).to(shapes.accumulation_dtype(x))
        given = {"dy": tensor(shape, dtype), "x": x, "gain": gain}
        given |= {"statistics": statistics if centre else statistics[0], "k": k}
        given |= {"centre": centre, "has_bias": random_.random() < 0.5}
        names = {"dy": other, "gain": None, "statistics": torch.bfloat16, "k": n}
    else:
        given = {"x": x, "residual": tensor(shape, dtype), "gain": gain, "bias": bias}
        given |= {"eps": EPS, "k": k, "centre": centre}
        names = {"residual": other, "gain": None, "bias": None, "k": n}
        if sort == "norm":
            del given["residual"], names["residual"]
    name = spoil(given, names) if spoilt else None
    got = attempt(lambda: getattr(ops, sort)(**given))
    if spoilt:
        assert isinstance(got, str), f"{sort} took a wrong {name}"
        return "error"
    assert not isinstance(got, str), f"{sort} refused what is right: {got}"
    if sort == "norm_backward":
        inputs = [t.detach().double().requires_grad_() for t in (x, x.new_ones(n), x.new_zeros(n))]
        inputs[1] = inputs[1] if gain is None else gain.detach().double().requires_grad_()
        out = formula(*inputs, k, centre)
        want = torch.autograd.grad(out, inputs, given["dy"].double())
        parameter_gradients = got[1] if given["has_bias"] else got[1][None]
        for a, b in zip((got[0], *parameter_gradients), want, strict=False):
            close(a, b, dtype)
    else:
        total = x if sort == "norm" else x + given["residual"]
        wanted = (None if p is None else p.double() for p in (gain, bias))
        close(got[0], formula(total.double(), *wanted, k, centre), dtype)
    return "result"


def planes():
    """The norm of images and its gradient, all right or with one wrong argument."""
    n, channels = random_.choice((1, 2, 7, 40)), random_.choice(WIDTHS)
    dtype, centre, has_bias = random_.choice(FLOATS), random_.random() < 0.5, random_.random() < 0.5
    k = n if centre else random_.randint(1, n)
    x = tensor([random_.choice((0, 1, 3, 40)), n, channels], dtype)
    gain, bias = parameters(channels, dtype)
    bias = bias if has_bias else None
    forward, spoilt = torch.ops.normlab.plane_norm, random_.random() < 0.6
    given = {"x": x, "gain": gain, "bias": bias, "eps": EPS, "k": k, "centre": centre}
    names = {"gain": None, "bias": None, "k": n}
    backwards = random_.random() < 0.5
    if backwards:
        given = {"dy": tensor(x.shape, dtype), "x": x, "gain": gain, "k": k, "centre": centre}
        given |= {"statistics": forward(x, gain, None, EPS, k, centre)[1], "has_bias": True}
        other = torch.float32 if dtype == torch.float64 else torch.float64
        names = {"dy": other, "gain": None, "statistics": torch.bfloat16, "k": n}
    name = spoil(given, names) if spoilt else None
    operator = torch.ops.normlab.plane_norm_backward if backwards else forward
    got = attempt(lambda: operator(**given))
    if spoilt:
        assert isinstance(got, str), f"plane_norm took a wrong {name}"
        return "error"
    assert not isinstance(got, str), f"plane_norm refused what is right: {got}"
    inputs = [t.detach().double().requires_grad_() for t in (x, x.new_ones(channels))]
    inputs[1] = inputs[1] if gain is None else gain.detach().double().requires_grad_()
    added = torch.zeros(channels) if bias is None or backwards else bias
    inputs.append(added.detach().double().requires_grad_())
    out = formula(inputs[0].transpose(1, 2), None, None, k, centre).transpose(1, 2)
    out = out * inputs[1] + inputs[2]
    if backwards:
        wanted = torch.autograd.grad(out, inputs, given["dy"].double())
        for a, b in zip((got[0], *got[1]), wanted, strict=True):
            close(a, b, dtype)
    else:
        close(got[0], out, dtype)
    return "result"


def formula(x, gain, bias, k, centre):
    if centre:
        return functional.layer_norm(x, gain, bias, EPS)
    return functional.prms_norm(x, gain, bias, EPS, k)


def gru():
    """The GRU's step and its gradient, all right or with one wrong argument."""
    rows, n = random_.choice((0, 1, 2, 7, 40)), random_.choice((1, 3, 8, 17, 33))
    dtype, centre = random_.choice(FLOATS), random_.random() < 0.5
    k_g, k_c = (2 * n, n) if centre else (random_.randint(0, 2 * n), random_.randint(0, n))
    has_bias = random_.random() < 0.5
    s, x_g, x_c, h = (tensor([rows, size * n], dtype) for size in (3, 2, 1, 1))
    gain_g, gain_c = (parameters(size * n, dtype)[0] for size in (2, 1))
    bias_g, bias_c = (tensor([size * n], dtype) if has_bias else None for size in (2, 1))
    ends = {"gates_gain": gain_g, "gates_bias": bias_g, "candidate_gain": gain_c}
    ends |= {"candidate_bias": bias_c, "gates_k": k_g, "candidate_k": k_c, "centre": centre}
    names = {"s": None, "h": None, "gates_gain": None, "gates_bias": None}
    names |= {"candidate_gain": None, "candidate_bias": None, "gates_k": 2 * n, "candidate_k": n}
    spoilt = random_.random() < 0.6
    given = {"s": s, "x_gates": x_g, "x_candidate": x_c, "h": h, **ends, "eps": EPS}
    forward = torch.ops.normlab.gru
    if random_.random() < 0.5:
        name = spoil(given, names | {"x_gates": None, "x_candidate": None}) if spoilt else None
        got = attempt(lambda: forward(**given))
    else:
        _, acts, statistics = forward(**given)
        given = {"d": tensor([rows, n], dtype), "s": s, "h": h, "acts": acts}
        given |= {"statistics": statistics, **ends}
        names |= {"d": None, "acts": torch.bfloat16, "statistics": torch.bfloat16}
        name = spoil(given, names) if spoilt else None
        got = attempt(lambda: torch.ops.normlab.gru_backward(**given))
    if spoilt:
        assert isinstance(got, str), f"gru took a wrong {name}"
        return "error"
    assert not isinstance(got, str), f"gru refused what is right: {got}"

    def part(summed, gain, bias, k):
        if centre:
            return functional.layer_norm(summed, gain, bias, EPS)
        if k:
            return functional.prms_norm(summed, gain, bias, EPS, k)
        return functional.affine(summed, gain, bias)

    inputs = [t.detach().double().requires_grad_() for t in (s, x_g, x_c, h)]
    wide = [None if p is None else p.double() for p in (gain_g, bias_g, gain_c, bias_c)]
    gates, candidate = inputs[0].split((2 * n, n), dim=-1)
    r, u = torch.sigmoid(inputs[1] + part(gates, wide[0], wide[1], k_g)).chunk(2, dim=-1)
    c = torch.tanh(inputs[2] + r * part(candidate, wide[2], wide[3], k_c))
    out = c + u * (inputs[3] - c)
    if "d" in given:
        for a, b in zip(got, torch.autograd.grad(out, inputs, given["d"].double()), strict=False):
            close(a, b, dtype)
    else:
        close(got[0], out, dtype)
    return "result"


def main(cases, seed):
    random_.seed(seed)
    torch.manual_seed(seed)
    assert cpu.load() is None, cpu.load()
    kinds = {"layer": layer, "operator": lambda: operator(torch.ops.normlab)}
    kinds |= {"gru": gru, "planes": planes}
    counts = Counter()
    for case in range(cases):
        name = random_.choice(list(kinds))
        try:
            counts[f"{name} {kinds[name]()}"] += 1
        except Exception:
            print(f"case {case}, {name}, of seed {seed}", file=sys.stderr)
            raise
    print(json.dumps(counts))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
