"""Run directories that nobody trained, for tests of what reads them."""

import json

import yaml


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
    tree: dict = {"seed": seed}
    for key, value in (config or {}).items():
        *path, last = key.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    (run / ".hydra" / "config.yaml").write_text(yaml.safe_dump(tree))
    (run / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(["+t=multi30k", "data=text"]))
    content = {
        "status": status, "norm": norm, "norm_impl": "composed", "init_mean": 0.0, "seed": seed,
        "seconds_per_1k_steps": 100.0, "device": "cpu", "torch": "2", "commit": "c" * 40,
        **(summary or {}),
    }  # fmt: skip
    (run / "summary.json").write_text(json.dumps(content))
    return run
