/* Draws every chart of the page from the specification beside it, in the reader's colours and width. */
(function () {
  "use strict";
  var dark = window.matchMedia("(prefers-color-scheme: dark)");
  var font = getComputedStyle(document.body).fontFamily;
  var views = [];

  function colours() {
    return dark.matches
      ? { ink: "#e6ebf1", soft: "#98a5b5", line: "#2b3542", blue: "#3fa2e0" }
      : { ink: "#16202c", soft: "#5a6675", line: "#e3e7ec", blue: "#0072b2" };
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
      spec.width = Math.max(260, place.clientWidth);
      var view = new vega.View(vega.parse(spec, config(colour)), {
        renderer: "svg", container: place, hover: true,
        logger: vega.logger(vega.Error, "error", function (method, level, reasons) { fail(reasons[0]); })
      });
      views.push(view);
      view.runAsync().then(function () { place.dataset.drawn = ""; }, fail);
    } catch (error) {
      fail(error);
    }
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
  draw();
})();
