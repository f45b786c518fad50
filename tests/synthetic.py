"""Run directories and records that nobody trained, for tests of what reads them."""

import json

import yaml

COMMIT = "c" * 40
CONTENTS = {"train": {"sha256": "a1"}, "test/test": {"sha256": "d3", "sentences": 1000}}


def write_run(folder, norm, seed, status="completed", config=None, summary=None, **metrics):
    """Writes one run; `metrics` are lists over evaluations, "dev_bleu" meaning dev/bleu."""
    run = folder / f"{norm}_{seed}_{'_'.join(map(str, (config or {}).values()))}"
    (run / ".hydra").mkdir(parents=True)
    count = max(map(len, metrics.values()), default=0)
    lines = [
        {
            "step": 10 * (i + 1),
            "time": float(i + 1),
            **{key.replace("_", "/", 1): values[i] for key, values in metrics.items()},
        }
        for i in range(count)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    tree: dict = {
        "seed": seed,
        "names": {"norm": norm, "experiment": "t/multi30k"},
        "norm": {"eps": 1e-6},
        "trainer": {"max_steps": 100},
        "data": {"dir": "/somewhere/else", "src": "en"},
    }
    for key, value in (config or {}).items():
        *path, last = key.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    (run / ".hydra" / "config.yaml").write_text(yaml.safe_dump(tree))
    overrides = ["+t=multi30k", "data=text", "data.dir=/somewhere/else"]
    (run / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    content = {
        "status": status, "norm": norm, "norm_impl": "composed", "init_mean": 0.0, "seed": seed,
        "steps": 100, "device": "cpu (x), 1 threads", "torch": "2", "commit": COMMIT,
        "data": "text", "contents": CONTENTS,
        "segments": [{"commit": COMMIT, "norm_impl": "composed"}],
        **(summary or {}),
    }  # fmt: skip
    (run / "summary.json").write_text(json.dumps(content))
    return run
