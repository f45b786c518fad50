"""What a run sets up before it computes."""

import ctypes
import subprocess

import pytest
from processes import python

from normlab.runs import environment

KEPT = """
import ctypes, sys
from normlab.runs.environment import prepare

class Mallinfo2(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Mallinfo2
libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
if sys.argv[1] == "prepared":
    prepare()
before = libc.mallinfo2().arena
libc.free(libc.malloc(20 << 20))
print(libc.mallinfo2().arena - before)
"""


@pytest.mark.slow
def test_fp32_is_fp32_also_where_the_environment_says_otherwise():
    code = (
        "from normlab.runs.environment import prepare; prepare(); import torch; "
        "print(torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)"
    )
    found = python("-c", code, env={"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"}).stdout.split()
    assert found == ["highest", "False"]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc's, from 2.33 on")
def test_freed_memory_stays_with_the_process():
    kept = {how: int(python("-c", KEPT, how).stdout) for how in ("prepared", "as it is")}
    assert kept["prepared"] >= 20 << 20 and kept["as it is"] < 1 << 20


@pytest.mark.slow
def test_new_files_of_ours_that_git_does_not_know_are_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    module = tmp_path / "src/normlab/runs/environment.py"
    module.parent.mkdir(parents=True)
    module.touch()
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(environment, "__file__", str(module))
    (tmp_path / "notes.txt").touch()  # no code
    version = environment._code_version.__wrapped__  # it is found once a process
    assert "+" not in version()
    for name in ("src/normlab/new.py", "experiments/new/experiment.toml", "conf/norm/new.yaml"):
        new = tmp_path / name
        new.parent.mkdir(parents=True, exist_ok=True)
        new.touch()
        assert version().endswith("+changes")
        new.unlink()
    copy = tmp_path / ".venv/normlab/runs/environment.py"  # installed in someone's repository
    copy.parent.mkdir(parents=True)
    copy.touch()
    monkeypatch.setattr(environment, "__file__", str(copy))
    with pytest.raises(subprocess.SubprocessError):
        version()
    monkeypatch.undo()
    assert environment.code_version() is environment.code_version()
