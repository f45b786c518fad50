"""Builds the W&B workspace of a project: curves by norm, centre and implementation, seed bands.

pip install -e '.[dashboard]'
scripts/wandb_dashboard.py --entity TEAM            # prints the address of the workspace
scripts/wandb_dashboard.py --entity TEAM --dry-run  # prints the panels; needs no account
scripts/wandb_dashboard.py --draw workspace.png RUN_DIR ...  # draws them; needs no account either
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from normlab.errors import UserError

# title, metric on y, and on x ("Step", or training seconds, evaluation excluded)
PANELS = {
    "Quality": [
        ("loss against steps", "train/loss", "Step"),
        ("loss against training seconds", "train/loss", "time"),
        ("dev BLEU against steps", "dev/bleu", "Step"),
        ("dev BLEU against training seconds", "dev/bleu", "time"),
        ("dev NLL", "dev/nll", "Step"),
        ("gradient norm", "train/grad_norm", "Step"),
    ],
    "Wall-clock": [
        ("ms per step", "train/step_ms", "Step"),
        ("items (target tokens, images, ...) per second", "train/items_per_second", "Step"),
    ],
}
GROUP_BY = ("names.norm", "init.mean", "norm_impl")  # what is left to differ is the seed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entity", help="W&B user or team")
    parser.add_argument("--project", default="normlab")
    parser.add_argument("--dry-run", action="store_true", help="print the panels, upload nothing")
    parser.add_argument("--draw", type=Path, help="draw what the panels show of RUN_DIRs")
    parser.add_argument("run_dirs", nargs="*", type=Path, metavar="RUN_DIR")
    args = parser.parse_args()
    if args.draw:
        if not args.run_dirs:
            parser.error("--draw needs the run directories to draw.")
        draw(args.run_dirs, args.draw)
        return
    if args.entity is None:
        parser.error("--entity is needed: the W&B user or team whose workspace it is.")
    try:
        made = workspace(args.entity, args.project)
    except ImportError:
        sys.exit("wandb-workspaces is missing: pip install -e '.[dashboard]'")
    if not args.dry_run:
        import wandb

        if not wandb.login(prompt=False, verify=False):
            sys.exit("no W&B key: run `wandb login`, or try --dry-run.")
        print(made.save().url)
        return
    print(f"{args.entity}/{args.project}, grouped by {', '.join(GROUP_BY)}")
    for section in made.sections:
        print(section.name)
        for panel in section.panels:
            band = f"{panel.groupby_aggfunc}, band {panel.groupby_rangefunc}"
            print(f"  {panel.title}: {', '.join(panel.y)} against {panel.x}; {band}")


def draw(run_dirs: list[Path], out: Path) -> None:
    """Draws the panels from metrics.jsonl, of which W&B has a copy."""
    from normlab.reports.figures import Panel, draw_curves, write_figure
    from normlab.reports.records import alike, read_runs

    try:
        runs = read_runs(run_dirs)
        settings = alike(runs)
        panels = [
            Panel(some, y, "step" if x == "Step" else x, f"{title} {setting}".strip())
            for section in PANELS.values()
            for title, y, x in section
            for setting, some in settings.items()
        ]
        write_figure(panels, draw_curves, out)
    except UserError as error:
        sys.exit(str(error))
    print(f"wrote {out}")


def workspace(entity: str, project: str) -> Any:
    """Returns the unsaved workspace; raises ImportError without wandb-workspaces."""
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    sections = [
        ws.Section(
            name=name,
            is_open=True,
            panels=[
                wr.LinePlot(
                    title=title,
                    x=x,
                    y=[y],
                    groupby_aggfunc="mean",
                    groupby_rangefunc="minmax",
                )
                for title, y, x in panels
            ],
        )
        for name, panels in PANELS.items()
    ]
    return ws.Workspace(
        entity=entity,
        project=project,
        name="normlab",
        sections=sections,
        runset_settings=ws.RunsetSettings(groupby=[ws.Config(key) for key in GROUP_BY]),
    )


if __name__ == "__main__":
    main()
