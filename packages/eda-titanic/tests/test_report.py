"""The report: right numbers, any table, one file without anything from elsewhere."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dlcommon.runtime.data import Table, find
from dlcommon.runtime.tables.columns import describe
from dlcommon.testing.commands import run, script
from eda_titanic.report import charts, page, pictures, statistics
from eda_titanic.report.findings import findings
from scipy import stats


@pytest.fixture(scope="module")
def passengers() -> Table:
    located = find("titanic-sample")
    assert located is not None
    loaded: Table = located.load()
    return loaded


class Reader(HTMLParser):
    """Every address that the page names, and every tag that is open."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "data", "action")]
        if tag not in ("meta", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    assert not reader.open
    return reader


def test_the_page_is_whole_and_asks_nothing_of_the_network(passengers: Table) -> None:
    html = page.report(passengers, "Titanic")
    assert all(address.startswith("#") for address in read(html).addresses)
    assert "url(" not in html
    assert "@import" not in html
    assert html == page.report(passengers, "Titanic")  # a resumed run writes the same bytes


def test_findings_state_what_pandas_computes(passengers: Table) -> None:
    subject = pictures.subject_of(passengers)
    said = " ".join(f.text.en for f in findings(subject, statistics.associations(subject.frame, subject.columns), None))
    frame = passengers.train
    by_sex = frame.groupby("Sex")["Survived"].mean()
    assert f"{100 * by_sex['female']:.1f} % " in said
    assert f"{100 * by_sex['male']:.1f} % " in said
    assert f"died {(frame['Survived'] == 0).sum()}, survived {(frame['Survived'] == 1).sum()}" in said
    assert f"Age ({100 * frame['Age'].isna().mean():.1f} %)" in said
    missing = frame.groupby(frame["Age"].isna())["Survived"].mean()
    assert f"{100 * missing[True]:.1f} % " in said
    for finding in findings(subject, [], None):
        assert finding.text.zh
        assert re.search(r"[\u4e00-\u9fff]", finding.text.zh)


def test_rates_are_shares_with_wilsons_interval(passengers: Table) -> None:
    subject = pictures.subject_of(passengers)
    assert subject.positive is not None
    found = {
        rate.level: rate
        for rate in statistics.rates(subject.frame["Pclass"], subject.column("Pclass"), subject.positive)
    }
    expected = passengers.train.groupby("Pclass")["Survived"].agg(["mean", "count", "sum"])
    for pclass, row in expected.iterrows():
        rate = found[str(pclass)]
        interval = stats.binomtest(int(row["sum"]), int(row["count"])).proportion_ci(method="wilson")
        assert rate.n == row["count"]
        assert rate.share == pytest.approx(row["mean"])
        assert (rate.low, rate.high) == pytest.approx((interval.low, interval.high))


def test_associations_against_their_definitions() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=500)
    frame = pd.DataFrame(
        {"x": x, "y": x + random.normal(size=500), "c": np.where(x > 0, "p", "n"), "d": random.choice(list("uv"), 500)}
    )
    frame = frame.astype({"c": "str", "d": "str"})
    found = {(a.left, a.right): a for a in statistics.associations(frame, describe(frame))}
    assert found["x", "y"].strength == pytest.approx(abs(stats.spearmanr(frame["x"], frame["y"]).statistic))
    # η² of ranks is Kruskal and Wallis' H divided by n - 1
    h = stats.kruskal(*(part for _, part in frame["x"].groupby(frame["c"]))).statistic
    assert found["x", "c"].strength == pytest.approx(np.sqrt(h / 499))
    assert found["c", "d"].strength < 0.1
    copy = frame.assign(e=frame["c"])
    assert statistics.associations(copy, describe(copy))[0].strength == pytest.approx(1.0, abs=0.01)


def test_leaks_are_found() -> None:
    random = np.random.default_rng(1)
    y = random.integers(0, 2, 400)
    frame = pd.DataFrame({"x": random.normal(size=400), "later": y * 10 + random.normal(size=400), "y": y})
    said = texts(frame)
    assert "later alone tells the classes apart almost perfectly" in said
    ordered = pd.DataFrame({"x": random.normal(size=400), "y": np.sort(y)})
    assert "The order of the rows goes with the target" in texts(ordered)
    tied = pd.DataFrame(
        {"household": [f"h{i // 2}" for i in range(400)], "x": random.normal(size=400), "y": np.repeat(y[:200], 2)}
    )
    assert "rows share a household with others, and 100.0 % of such pairs" in texts(tied.astype({"household": "str"}))
    clean = pd.DataFrame({"x": random.normal(size=400), "y": y})
    assert "No sign of leakage was found" in texts(clean)


def texts(frame: pd.DataFrame) -> str:
    subject = pictures.subject_of(Table(frame, None, "y", None))
    return " ".join(f.text.en for f in findings(subject, statistics.associations(subject.frame, subject.columns), None))


ODD_TABLES = {
    "one column": {"a": [1, 2, 3]},
    "one row": {"a": [1.5], "b": ["x"]},
    "nothing known": {"a": [None] * 5, "b": [np.nan] * 5},
    "constant": {"a": [7] * 30, "b": ["x"] * 30},
    "huge numbers": {"a": [1e300, -1e300, 0.0, 1e-300] * 5, "b": [2**52] * 20},
    "markup": {"<script>alert(1)</script>": ["<b>x</b>", '"><img src=x>'] * 10, "b": range(20)},
    "Chinese": {"城市": ["北京", "上海"] * 10, "价格": range(20)},
    "many categories": {"a": [f"c{i % 29}" for i in range(200)], "b": [float(i % 97) for i in range(200)]},
    "long text": {"a": ["word " * 500 + str(i) for i in range(20)], "b": range(20)},
}


@pytest.mark.parametrize("name", ODD_TABLES)
def test_any_table_gets_a_page(name: str) -> None:
    frame = pd.DataFrame(ODD_TABLES[name])
    texts = [column for column in frame if not pd.api.types.is_numeric_dtype(frame[column])]
    html = page.render(pictures.without_target(frame.astype(dict.fromkeys(texts, "str"))), name)
    read(html)
    assert "<script" not in html
    assert "<img" not in html
    assert "NaN" not in html
    assert ">nan" not in html


@pytest.mark.parametrize("kind", ["numbers", "categories", "three classes", "a number"])
def test_any_target_gets_a_page(kind: str) -> None:
    random = np.random.default_rng(2)
    targets = {
        "numbers": random.integers(0, 2, 80), "categories": random.choice(["yes", "no"], 80),
        "three classes": random.choice(list("abc"), 80), "a number": random.normal(size=80),
    }  # fmt: skip
    frame = pd.DataFrame({"x": random.normal(size=80), "c": random.choice(list("pq"), 80), "y": targets[kind]})
    strings = [column for column in frame if not pd.api.types.is_numeric_dtype(frame[column])]
    html = page.report(Table(frame.astype(dict.fromkeys(strings, "str")), None, "y", None), kind)
    read(html)


def test_the_report_draws_what_people_bring_and_says_how_it_was_read(tmp_path: Path) -> None:
    """Long identifiers, codes, decimal commas, infinities, dates, numbers of which many digits are alike."""
    path = tmp_path / "own.csv"
    rows = [
        f'{10**18 + n};0{n % 9};"{n},5 €";{"inf" if n % 7 == 0 else n};2024-01-{n % 28 + 1:02d};{10**15 + n}.5;{n % 2}'
        for n in range(60)
    ]
    path.write_text("\n".join(["id;zip;price;x;when;close;y", *rows]), encoding="utf-8")
    done = run([script("eda-report"), str(path), "--target", "y"], {}).check_success()
    html = (tmp_path / "own-report.html").read_text(encoding="utf-8")
    for said in (
        "id holds integers of up to 19 digits", "zip has leading zeros", "price is read as numbers (&#39;€&#39;, ",
        "x: infinite numbers", "when is read as dates",
    ):  # fmt: skip
        assert said in html
        assert said.replace("&#39;", "'") in done.stderr
    assert "id differs in every row: it names the rows" in html
    assert "2024-01-28" in html
    read(html)


@pytest.mark.parametrize("values", [[2.0**53 + n for n in range(0, 60, 2)], [1e30, -1e30, 0.0] * 10, [1e-300] * 9])
def test_numbers_of_any_size_have_a_histogram(values: list[float]) -> None:
    edges = charts.bin_edges(np.array(values))
    assert (np.diff(edges) > 0).all()
    assert edges[0] <= min(values) <= max(values) <= edges[-1]
    assert np.histogram(values, edges)[0].sum() == len(values)
    assert "nan" not in charts.histogram(np.array(values), "x")


def test_comparing_many_columns_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "SECONDS_BETWEEN_NOTES", 0.0)
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(20, 6)), columns=list("abcdef"))
    said: list[str] = []
    statistics.associations(frame, describe(frame), said.append)
    assert any(text.startswith("comparing columns: ") and text.endswith(" of 15 pairs") for text in said)


def test_the_command_writes_a_page_and_names_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("x;y\n1;a\n2,5;b\n", encoding="utf-8")
    done = run([script("eda-report"), str(path)], {}).check_success()
    assert done.stdout.strip() == f"report: {tmp_path / 'own-report.html'}"
    assert (tmp_path / "own-report.html").stat().st_size > 5000
    run([script("eda-report"), str(path), "--target", "z"], {}).check_refusal(2, "choose one of x, y")
    path.write_text("x,y\n1\n")
    run([script("eda-report"), str(path)], {}).check_refusal(1, "row 2: has 1 cells")
    run([script("eda-report"), str(tmp_path / "absent.csv")], {}).check_refusal(1, "No such file")
