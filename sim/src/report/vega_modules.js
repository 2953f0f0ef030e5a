/* Debian packages Vega as the modules it is made of. Each of them registers through AMD's `define` if there
   is one, so this is the smallest `define` that will do: the build names each module just before its text. */
var loracleVega = (function () {
  var modules = {};
  var name = "";
  function define(dependencies, factory) {
    var made = modules[name] || (modules[name] = {});
    factory.apply(null, dependencies.map(function (dependency) {
      if (dependency === "exports") return made;
      /* Named in the plural by those who need it. */
      return modules[dependency] || modules[dependency.replace(/s$/, "")];
    }));
  }
  define.amd = {};
  return { define: define, modules: modules, next: function (text) { name = text; } };
})();
(function (define, exports, module) {
