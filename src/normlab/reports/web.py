"""results/index.html: the results for people who look before they read, in one file."""

import base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from normlab.reports import text
from normlab.reports.benchmarks import CONTROL, ratio, seconds
from normlab.reports.claims import Claim, items, paragraph, read_claims
from normlab.reports.experiments import Experiment
from normlab.reports.index import write_index
from normlab.reports.panels import legend
from normlab.reports.speed import pooled

CHARTS = ("steps_rnnsearch_small_fp32", "steps_transformer_deep_fp32")
COMPARED = ("none", "layernorm", "rmsnorm", "prmsnorm")


@dataclass(frozen=True)
class Figure:
    """A picture, whole: `source` is a data URL."""

    items: str  # the tables and figures that it belongs to, as "Table 2|Figure 1"
    title: str
    page: str
    source: str
    marks: str  # what its lines and dots mean
    finding: list[str]  # the sentences of its page, none before the registered runs


@dataclass(frozen=True)
class Bar:
    """One variant of a benchmark: its time as a share of torch's LayerNorm, and in ms."""

    name: str
    norm: str
    share: float
    milliseconds: float


def write_claims(experiments: Sequence[Experiment], root: Path, results: Path) -> list[Path]:
    """Writes what the claims of all `experiments` have come to, as a table and as a web page."""
    claims = read_claims(experiments, results)
    return [write(claims, experiments, root, results) for write in (write_index, write_web_page)]


def write_web_page(
    claims: Sequence[Claim], experiments: Sequence[Experiment], root: Path, results: Path
) -> Path:
    """Writes results/index.html: `claims`, figures and charts; it needs no network and no server.

    `root`/summary.md opens it, as it does results/README.md.
    """
    templates = FileSystemLoader(Path(__file__).parent)
    page = Environment(loader=templates, autoescape=True, undefined=StrictUndefined)
    path = results / "index.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    html = page.get_template("web.html.j2").render(
        summary=paragraph((root / "summary.md").read_text(encoding="utf-8")),
        claims=claims,
        items=items(claims),
        verdicts=Counter(claim.verdict for claim in claims).most_common(),
        figures=_figures(experiments, results),
        charts=_charts(results / "benchmarks"),
    )
    path.write_text(html + "\n", encoding="utf-8")
    return path


def _figures(experiments: Sequence[Experiment], results: Path) -> list[Figure]:
    """Returns every figure in results/, each picture once: some experiments share their runs."""
    found: dict[bytes, Figure] = {}
    for experiment in experiments:
        for path in sorted((results / experiment.name).glob("*/figure.png")):
            content = path.read_bytes()
            source = f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
            title = f"{experiment.title} ({path.parent.name})"
            page = f"{experiment.name}/{path.parent.name}/table.md"
            if content in found:
                shared = found[content]
                found[content] = replace(shared, items=f"{shared.items}|{experiment.item}")
            else:
                said = text.bullets(experiment.findings.get(path.parent.name, ""))
                marks = legend(experiment.figure(path.parent.name))
                found[content] = Figure(experiment.item, title, page, source, marks, said)
    return list(found.values())


def _charts(benchmarks: Path) -> list[tuple[str, str, list[Bar]]]:
    """Returns title, device and bars of each wall-clock chart."""
    charts = []
    for name in CHARTS:
        path = benchmarks / f"{name}.json"
        if not path.exists():
            continue
        whole, *_ = pooled(path)
        (record,) = whole["records"]
        bars = []
        for variant in record["times"]:
            norm = variant.partition(" ")[0]
            if norm in COMPARED and variant != CONTROL:
                share = ratio(record, variant, record["baseline"]).median
                bars.append(Bar(variant, norm, share, 1000 * seconds(record, variant)))
        charts.append((whole["title"], whole["environment"]["device"], bars))
    return charts
