"""The Triton kernels become machine code for an H100/H200, which needs no GPU to try."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

COMPILE = """
import triton.language as tl
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from normlab.norms.kernels import gpu

HALF, FULL, INT, CONSTANT = "*bf16", "*fp32", "i32", "constexpr"

def build(kernel, types, flags, n, backward):
    tile = gpu._tile(n, backward)
    warps = tile.pop("num_warps")
    constants = {**flags, **tile, "ACC": tl.float32}
    source = ASTSource(kernel, types | dict.fromkeys(constants, CONSTANT), constexprs=constants)
    made = compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps})
    assert len(made.asm["cubin"]) > 0

sizes = {"rows": INT, "n": INT, "k": INT}
parameters = {"gain_ptr": FULL, "bias_ptr": FULL, "r_ptr": FULL, "mean_ptr": FULL}
data = dict.fromkeys(("x_ptr", "residual_ptr", "sum_ptr", "y_ptr"), HALF)
flags = dict.fromkeys(("ADD", "GAIN", "BIAS", "CENTRE"), True)
build(gpu._forward_kernel, {**data, **parameters, **sizes, "eps": "fp32"}, flags, 512, False)

data = dict.fromkeys(("dy_ptr", "x_ptr", "dx_ptr"), HALF)
parameters = dict.fromkeys(("gain_ptr", "r_ptr", "mean_ptr", "dgain_ptr", "dbias_ptr"), FULL)
flags = {"GAIN": True, "BIAS": False, "CENTRE": False}
for n in (128, 1024):
    build(gpu._backward_kernel, {**data, **parameters, **sizes, "tiles": INT}, flags, n, True)
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_both_kernels_compile():
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", COMPILE]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
