"""Opens the planner's reports in Chromium: charts drawn, no errors, both themes, narrow and wide, usable by
keyboard and screen reader, printable; and the same bytes whatever the number of threads.

usage: report_pages.py LORACLE WORK [--real CHECKOUT] [--only WORD] [--keep FOLDER]

Without --real: a trace made by a seed. With it: real traces, from $LORACLE_SHARED, or `shared` in or beside
the checkout. Exits with 77, said loudly, where no browser or no trace is there."""

import argparse
import base64
import json
import os
import pathlib
import struct
import subprocess
import sys
import xml.etree.ElementTree

import chromium

PAGE_BYTES_MAX = 3_000_000
WIDTHS = (360, 1600)

# What is wrong with the page for who does not see it or has no mouse, by rules that axe has too.
ACCESSIBILITY = r"""(() => {
  const wrong = [];
  const say = (what, e) => wrong.push(what + (e ? ": " + e.outerHTML.slice(0, 120) : ""));
  if (!document.documentElement.lang) say("no language");
  if (!document.title.trim()) say("no title");
  if (document.querySelectorAll("main").length !== 1) say("not one main landmark");
  if (document.querySelectorAll("h1").length !== 1) say("not one h1");
  let level = 0;
  document.querySelectorAll("h1,h2,h3,h4").forEach(h => {
    const mine = +h.tagName[1];
    if (mine > level + 1) say("a heading level is left out", h);
    level = mine;
  });
  const ids = [...document.querySelectorAll("[id]")].filter(e => !e.closest("svg")).map(e => e.id);
  if (new Set(ids).size !== ids.length) say("an id is given twice");
  const named = e => {
    const by = e.getAttribute("aria-labelledby");
    const text = by ? by.split(" ").map(id => (document.getElementById(id) || {}).textContent || "").join(" ")
      : e.getAttribute("aria-label") || "";
    return text.trim().length > 0;
  };
  document.querySelectorAll("[role=img],[role=region],section,pre[tabindex]").forEach(e => {
    if (!named(e) && !e.classList.contains("small")) say("no name", e);
  });
  document.querySelectorAll("[data-chart]").forEach(e => {
    const by = document.getElementById(e.getAttribute("aria-describedby"));
    const described = by && by.textContent.trim().length >= 20;
    if (e.getAttribute("role") !== "img" || !described) say("no description", e);
  });
  document.querySelectorAll("table").forEach(t => {
    if (!t.caption || !t.caption.textContent.trim()) say("no caption", t);
    const head = [...t.tHead.rows[0].cells];
    if (head.some(c => c.scope !== "col" || !c.textContent.trim())) say("bad head", t);
  });
  document.querySelectorAll("[tabindex]").forEach(e => { if (e.tabIndex > 0) say("jumps the queue", e); });
  document.querySelectorAll("body *").forEach(e => {
    const s = getComputedStyle(e);
    const scrolls = /auto|scroll/.test(s.overflowX) && e.scrollWidth > e.clientWidth + 1;
    if (scrolls && e.tabIndex < 0) say("scrolls without a keyboard", e);
  });
  return wrong;
})()"""

# Texts whose contrast with what is behind them is below WCAG's 4.5.
CONTRAST = r"""(() => {
  const parse = c => (c.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const linear = v => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const light = c => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const wrong = [];
  document.querySelectorAll("body *").forEach(e => {
    if (e.closest("script,style,noscript,.skip")) return;
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) return;
    const svg = e instanceof SVGElement;
    const style = getComputedStyle(e);
    const paint = svg ? style.fill : style.color;
    if (!paint.startsWith("rgb")) return;
    const a = light(parse(paint)), b = light(behind(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) wrong.push(ratio.toFixed(2) + " " + e.textContent.trim().slice(0, 50));
  });
  return wrong.slice(0, 5);
})()"""

# What sticks out of the page sideways; tables may, in cards that scroll.
OVERFLOW = r"""(() => {
  const wide = document.documentElement.clientWidth;
  const out = [...document.querySelectorAll("body *")].filter(e =>
    !e.closest(".scroll table") && !e.closest("svg") && !e.classList.contains("skip") &&
    e.getBoundingClientRect().right > wide + 1);
  return (document.documentElement.scrollWidth > wide ? ["the page scrolls sideways"] : [])
    .concat(out.slice(0, 3).map(e => e.outerHTML.slice(0, 100)));
})()"""

CHARTS = r"""[...document.querySelectorAll("[data-chart]")].map(e => ({
  name: e.dataset.chart, drawn: "drawn" in e.dataset && !("failed" in e.dataset) && !!e.querySelector("svg"),
  marks: e.querySelectorAll("svg path, svg rect, svg line").length, text: e.textContent.slice(0, 200),
  cut: [...e.querySelectorAll("svg")].some(s => s.getBoundingClientRect().width > e.clientWidth + 2 ||
    [...s.querySelectorAll("text")].some(t => t.textContent &&
      (t.getBoundingClientRect().right > s.getBoundingClientRect().right + 2 ||
       t.getBoundingClientRect().top < s.getBoundingClientRect().top - 2)))}))"""

GENERATED = [("made by a seed",
              "trace gen zipf --rate 4 --adapters 60 --alpha 0.9 --duration-mean 2 --requests 12000 --seed 7",
              ["--model", "llama-3.1-8b", "--current-max-loras", "8", "--current-max-cpu-loras", "16",
               "--gpu-memory", "80GiB", "--prices", "{work}/prices.json", "--calibration",
               "{work}/calibration.json"])]
PRICES = {"schema": "loracle.prices/1", "currency": "USD", "source": "made",
          "prices": {"gpu_hour": 4, "host_gib_month": 2.5, "disk_gib_month": 0.08, "egress_gib": 0.09}}
GENTD26 = "traces/gentd26/adapter_requests_timed_d00-11.csv.gz"
SERVEGEN = "traces/servegen/language_m-{}_client_rates.csv.xz"
REAL = [("gentd26", GENTD26, []),
        ("gentd26, a day", GENTD26, ["--fold", "1d"]),
        ("gentd26, an hour", GENTD26, ["--fold", "1h"]),
        ("servegen, small", SERVEGEN.format("small"), ["--requests", "100000"]),
        ("servegen, large", SERVEGEN.format("large"), ["--requests", "100000"]),
        ("azure", "traces/azure_llm2023/AzureLLMInferenceTrace_conv.csv.gz",
         ["--map", "s-lora-power:adapters=200"])]


class Wrong(Exception):
    """A promise of the report does not hold."""


def expect(holds, what):
    if not holds:
        raise Wrong(what)


def plan(loracle, trace, flags, folder, threads):
    """The files of one run. Any answer of `plan` is one, change advised or not."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: folder / f"plan.{name}" for name in ("html", "json", "md", "csv")}
    command = [loracle, "plan", trace, *flags, "--threads", str(threads), "--html", files["html"], "--json",
               files["json"], "--markdown", files["md"], "--csv", files["csv"]]
    done = subprocess.run(command, capture_output=True, text=True)
    expect(done.returncode in (0, 10, 20, 30), f"exit code {done.returncode}: {done.stderr}")
    return files


def make_inputs(loracle, source, work):
    """A trace with tenants, prices, and a calibration whose measurements scatter by a tenth."""
    drawn = work / "drawn.jsonl"
    subprocess.run([loracle, *source.split(), "-o", drawn], check=True, capture_output=True)
    trace = work / "made.jsonl"
    with trace.open("w") as out:
        for i, line in enumerate(drawn.read_text().splitlines()):
            out.write(json.dumps({**json.loads(line), "tenant": f"team {i * i % 7}"}) + "\n")
    (work / "prices.json").write_text(json.dumps(PRICES))
    loads = work / "loads.csv"
    with loads.open("w") as out:
        out.write("tier,bytes,seconds\n")
        for i in range(60):
            size = (10 + 15 * (i % 10)) * 1_000_000
            for tier, latency_s, rate in (("slot", 0.001, 10e9), ("disk", 0.005, 1e9)):
                out.write(f"{tier},{size},{(latency_s + size / rate) * (1 + (i * 7 % 11 - 5) / 50):.9f}\n")
    subprocess.run([loracle, "calibrate", "--loads", loads, "--machine", "a made server", "--date",
                    "2026-11-22", "--out", work / "calibration.json"], check=True, capture_output=True)
    return trace


def check_page(browser, page, plan_json, keep, name, charts_min):
    expect(page.stat().st_size < PAGE_BYTES_MAX, f"{page.stat().st_size} bytes")
    for width in WIDTHS:
        for dark in (False, True):
            where = f"{width} px, {'dark' if dark else 'light'}: "
            browser.view(width, dark=dark)
            browser.open(page)
            expect(not browser.complaints(), where + str(browser.complaints()))
            expect(not browser.fetched(), where + f"fetches {browser.fetched()}")
            charts = browser.evaluate(CHARTS)
            expect(len(charts) >= charts_min, where + f"only {len(charts)} charts")
            for chart in charts:
                expect(chart["drawn"] and chart["marks"] > 3, where + f"chart not drawn: {chart}")
                expect(not chart["cut"], where + f"larger than its place: {chart['name']}")
            for check in (OVERFLOW, ACCESSIBILITY, CONTRAST):
                wrong = browser.evaluate(check)
                expect(not wrong, where + str(wrong))
            text = browser.evaluate("document.getElementById('decision').innerText")
            advice = plan_json["recommendation"]
            trusted = "UNCALIBRATED" if advice["calibration"] == "uncalibrated" else "calibrated 2026"
            for word in (f"--max-loras {advice['max_loras']} ", trusted, "Wrong if", "Risk"):
                expect(word.lower() in text.lower(), where + f"the decision lacks '{word}': {text}")
            if keep:
                screenshot(browser, keep, f"{name}-{width}-{'dark' if dark else 'light'}", width)
    check_keyboard(browser)
    # Printed from the dark theme, on paper all the same.
    pdf = base64.b64decode(browser.call("Page.printToPDF", printBackground=True)["data"])
    expect(pdf.startswith(b"%PDF") and len(pdf) > 20_000, f"the print-out has {len(pdf)} bytes")
    if keep:
        (keep / f"{name}.pdf".replace(" ", "_")).write_bytes(pdf)


def screenshot(browser, keep, name, width):
    keep.mkdir(parents=True, exist_ok=True)
    height = browser.evaluate("document.documentElement.scrollHeight")
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    shot = browser.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
    (keep / f"{name}.png".replace(" ", "_")).write_bytes(base64.b64decode(shot["data"]))


def check_keyboard(browser):
    """Tab leads to the way past the head, then to the flags, and on to every table."""
    seen = []
    for _ in range(12):
        for kind in ("rawKeyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        seen.append(browser.evaluate("document.activeElement.className + ' ' + "
                                     "(document.activeElement.getAttribute('aria-label') || '')"))
    expect(seen[0].startswith("skip"), f"Tab goes first to '{seen[0]}'")
    for wanted in ("Flags to paste", "More or fewer slots", "More or less host memory"):
        expect(any(wanted in one for one in seen), f"Tab does not reach '{wanted}': {seen}")


def check_markdown(text, plan_json):
    flags = plan_json["recommendation"]["flags"]
    expect(f"```sh\n{flags}\n```" in text[:1000], "the flags do not stand at the head of the Markdown")
    for line in text.splitlines():
        if line.startswith("|"):
            expect(line.endswith("|"), f"a table's line is torn: {line}")


def check_charts(loracle, trace, flags, folder, names):
    """Each chart as a file: SVG that parses, PNG of twice its size."""
    done = subprocess.run([loracle, "plan", trace, *flags, "--svg", folder / "svg", "--png", folder / "png"],
                          capture_output=True, text=True)
    expect(done.returncode in (0, 10, 20, 30), f"exit code {done.returncode}: {done.stderr}")
    for name in names:
        svg = xml.etree.ElementTree.parse(folder / "svg" / f"{name}.svg").getroot()
        expect(svg.tag == "{http://www.w3.org/2000/svg}svg" and len(list(svg.iter())) > 10, f"{name}.svg")
        png = (folder / "png" / f"{name}.png").read_bytes()
        width, height = struct.unpack(">II", png[16:24])
        expect(png[:8] == b"\x89PNG\r\n\x1a\n" and width >= 1000 and height >= 200, f"{name}.png {width}")
    nobody = subprocess.run([loracle, "plan", trace, *flags, "--svg", folder / "none"], capture_output=True,
                            text=True, env={**os.environ, "CHROMIUM": "/nowhere/chromium"})
    expect(nobody.returncode == 3 and "install" in nobody.stderr, f"without a browser: {nobody.stderr}")


def check(loracle, browser, name, trace, flags, work, keep, charts_min):
    one, two = (plan(loracle, trace, flags, work / str(threads), threads) for threads in (1, 2))
    for kind in one:
        expect(one[kind].read_bytes() == two[kind].read_bytes(), f"one thread and two differ in {kind}")
    again = plan(loracle, trace, flags, work / "again", 2)
    for kind in one:
        expect(one[kind].read_bytes() == again[kind].read_bytes(), f"two runs differ in {kind}")
    plan_json = json.loads(one["json"].read_text())
    check_markdown(one["md"].read_text(), plan_json)
    check_page(browser, one["html"], plan_json, keep, name, charts_min)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("loracle")
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--real", type=pathlib.Path, help="the checkout, beside or in which the traces lie")
    parser.add_argument("--only", help="traces whose name holds this")
    parser.add_argument("--keep", type=pathlib.Path, help="write screenshots and print-outs here")
    asked = parser.parse_args()
    executable = chromium.path()
    if executable is None:
        print("SKIPPED: no Chromium here: install Debian's package chromium, or set CHROMIUM")
        return 77
    asked.work.mkdir(parents=True, exist_ok=True)
    shared = []
    if asked.real is not None:
        named = os.environ.get("LORACLE_SHARED")
        checkout = asked.real.resolve()
        shared = [pathlib.Path(named)] if named else [checkout / "shared", checkout.parent / "shared"]
    failed = 0
    opened = 0
    with chromium.Browser(executable) as browser:
        for name, source, flags in GENERATED if asked.real is None else REAL:
            if asked.only and asked.only not in name:
                continue
            work = asked.work / name.replace(" ", "_").replace(",", "")
            if asked.real is None:
                trace = make_inputs(asked.loracle, source, asked.work)
                flags = [flag.format(work=asked.work) for flag in flags]
            else:
                trace = next((root / source for root in shared if (root / source).exists()), None)
                if trace is None:
                    print(f"SKIPPED: {name}: {source} is in none of {[str(root) for root in shared]}")
                    continue
            opened += 1
            try:
                check(asked.loracle, browser, name, trace, flags, work, asked.keep,
                      20 if asked.real is None else 6)
                if asked.real is None:
                    names = browser.evaluate(CHARTS)
                    check_charts(asked.loracle, trace, flags, work, [chart["name"] for chart in names])
                print(f"{name}: passed", flush=True)
            except (Wrong, chromium.Failed) as error:
                failed += 1
                print(f"FAILED: {name}: {error}", flush=True)
    return 1 if failed else 0 if opened else 77


if __name__ == "__main__":
    sys.exit(main())
