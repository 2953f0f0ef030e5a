})(loracleVega.define);
/* What Vega's own entry module does: all transforms in one registry, the public names in one object. */
var vega = (function (modules) {
  var all = {};
  Object.keys(modules).forEach(function (name) {
    Object.keys(modules[name]).forEach(function (key) {
      if (key !== "transforms") all[key] = modules[name][key];
    });
  });
  var transforms = modules["vega-dataflow"].transforms;
  ["vega-transforms", "vega-view-transforms", "vega-encode"].forEach(function (name) {
    Object.keys(modules[name]).forEach(function (key) { transforms[key] = modules[name][key]; });
  });
  all.transforms = transforms;
  return all;
})(loracleVega.modules);
