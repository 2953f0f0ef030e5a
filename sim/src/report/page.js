/* Draws every chart of the page from the specification beside it, in the reader's colours and width; on paper
   in light ones. Where the body has data-export="svg" or "png", writes the charts as text instead, in base64. */
(function () {
  "use strict";
  var dark = window.matchMedia("(prefers-color-scheme: dark)");
  var exported = document.body.dataset.export;
  var font = exported ? "sans-serif" : getComputedStyle(document.body).fontFamily;
  var views = [];
  var onPaper = false;

  function colours() {
    return dark.matches && !onPaper && !exported
      ? { ink: "#e6ebf1", soft: "#98a5b5", line: "#2b3542", blue: "#3290d6", host: "#c3e3fa",
          back: "#181f28" }
      : { ink: "#16202c", soft: "#5a6675", line: "#e3e7ec", blue: "#0072b2", host: "#7cc4f0",
          back: "#ffffff" };
  }

  function config(colour) {
    return {
      axis: {
        labelColor: colour.soft, titleColor: colour.soft, gridColor: colour.line, domainColor: colour.soft,
        tickColor: colour.soft, labelFont: font, titleFont: font, labelFontSize: 11.5, titleFontSize: 12,
        titleFontWeight: 500, titlePadding: 8, labelPadding: 4, tickSize: 4
      },
      legend: {
        labelColor: colour.ink, titleColor: colour.soft, labelFont: font, titleFont: font, labelFontSize: 12,
        titleFontSize: 12, titleFontWeight: 500, symbolStrokeWidth: 3
      },
      text: { font: font },
      style: { cell: { stroke: null } }
    };
  }

  function draw() {
    var colour = colours();
    views.forEach(function (view) { view.finalize(); });
    views = [];
    document.querySelectorAll("[data-chart]").forEach(function (place) { drawOne(place, colour); });
  }

  /* A chart that fails says so in its place, and leaves the others alone. */
  function drawOne(place, colour) {
    function fail(reason) {
      place.dataset.failed = "";
      place.textContent = "This chart could not be drawn: " + reason;
    }
    delete place.dataset.failed;
    place.textContent = "";
    try {
      var spec = JSON.parse(document.getElementById(place.dataset.chart).textContent);
      spec.signals = (spec.signals || []).concat(Object.keys(colour).map(function (name) {
        return { name: name, value: colour[name] };
      }));
      spec.width = exported ? 640 : Math.max(200, place.clientWidth);
      if (exported) { write(place, spec, colour, fail); return; }
      /* Vega gives its container a role of its own; what the chart is, the place itself says. */
      var inner = place.appendChild(document.createElement("div"));
      inner.setAttribute("aria-hidden", "true");
      var view = new vega.View(vega.parse(spec, config(colour)), {
        renderer: "svg", container: inner, hover: true,
        logger: vega.logger(vega.Error, "error", function (method, level, reasons) { fail(reasons[0]); })
      });
      views.push(view);
      /* A legend learns its columns from the width, and the place it needs only then: laid out twice. */
      view.runAsync().then(function () { return view.resize().runAsync(); })
        .then(function () { place.dataset.drawn = ""; }, fail);
    } catch (error) {
      fail(error);
    }
  }

  function base64(text) {
    var bytes = new TextEncoder().encode(text);
    var binary = "";
    for (var i = 0; i < bytes.length; i++) binary += String.fromCharCode(bytes[i]);
    return btoa(binary);
  }

  function write(place, spec, colour, fail) {
    spec.background = "#ffffff";
    var view = new vega.View(vega.parse(spec, config(colour)), { renderer: "none" });
    var made = exported === "svg" ? view.toSVG().then(base64)
      : view.toImageURL("png", 2).then(function (url) { return url.slice(url.indexOf(",") + 1); });
    made.then(function (text) { place.textContent = text; place.dataset.drawn = ""; }, fail);
  }

  var waiting = 0;
  var width = window.innerWidth;
  window.addEventListener("resize", function () {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(draw, 150);
  });
  dark.addEventListener("change", draw);
  window.addEventListener("beforeprint", function () { onPaper = true; draw(); });
  window.addEventListener("afterprint", function () { onPaper = false; draw(); });
  draw();
})();
