"""Where the files are that come with the code; in a checkout these are links to its folders."""

from pathlib import Path

HERE = Path(__file__).parent
CONF, SCRIPTS = HERE / "conf", HERE / "scripts"


def experiments() -> Path:
    """Returns the folder of experiments where we are, else the one that came with the code."""
    here = Path("experiments")
    return here if here.is_dir() else HERE / "experiments"
