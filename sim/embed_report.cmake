# Writes one C++ file that holds the report's style, its script and Vega as string literals, at configure
# time.
#
# LORACLE_VEGA_JS is Debian's folder of Vega modules (package libjs-vega), or one bundled vega.min.js. The
# modules are put end to end, in the order they need one another, behind the few lines of
# report/vega_modules.js.

set(LORACLE_VEGA_JS /usr/share/javascript/vega CACHE PATH
    "Vega for the HTML report: Debian's folder of modules (package libjs-vega), or a bundled vega.min.js")

# Only what the report's charts use: no maps, forces, regressions or word clouds.
set(vega_modules util time format loader dataflow statistics canvas scale scenegraph expression selection
                 functions event-selector parser runtime view transforms view-transforms encode)

function(loracle_embed_report output)
  set(from ${CMAKE_CURRENT_SOURCE_DIR}/src/report)
  set(read ${from}/page.css ${from}/page.js ${from}/vega_modules.js ${from}/vega_entry.js
           ${from}/vega_license.txt)
  set(vega "")
  if(IS_DIRECTORY ${LORACLE_VEGA_JS})
    file(READ ${from}/vega_modules.js vega)
    foreach(module ${vega_modules})
      set(file ${LORACLE_VEGA_JS}/vega-${module}.min.js)
      if(NOT EXISTS ${file})
        message(FATAL_ERROR "The HTML report needs ${file}, which is absent: reinstall Debian's package "
                            "libjs-vega, or set LORACLE_VEGA_JS to a bundled vega.min.js")
      endif()
      file(READ ${file} text)
      string(APPEND vega "loracleVega.next(\"vega-${module}\");\n" "${text}" "\n")
      list(APPEND read ${file})
    endforeach()
    file(READ ${from}/vega_entry.js text)
    string(APPEND vega "${text}")
  elseif(EXISTS ${LORACLE_VEGA_JS})
    file(READ ${LORACLE_VEGA_JS} vega)
    list(APPEND read ${LORACLE_VEGA_JS})
  else()
    message(FATAL_ERROR "The HTML report needs Vega, and ${LORACLE_VEGA_JS} does not exist: install "
                        "Debian's package libjs-vega, or set LORACLE_VEGA_JS to its folder or to a bundled "
                        "vega.min.js")
  endif()
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${read})
  # A page must not end its script early, nor look for source maps.
  string(REGEX REPLACE "//# sourceMappingURL=[^\n]*" "" vega "${vega}")
  string(REPLACE "</script" "<\\/script" vega "${vega}")
  string(REPLACE "<!--" "<\\!--" vega "${vega}")

  file(READ ${from}/page.css css)
  file(READ ${from}/page.js js)
  file(READ ${from}/vega_license.txt license)
  set(text "#include \"report_assets.hpp\"\n\nnamespace loracle::detail {\n")
  foreach(part css js vega license)
    set(name_css page_css)
    set(name_js page_js)
    set(name_vega vega_js)
    set(name_license vega_license)
    string(APPEND text "\nstd::string_view ${name_${part}}() noexcept {\n  return R\"embedded(" "${${part}}"
                       ")embedded\";\n}\n")
  endforeach()
  string(APPEND text "\n}  // namespace loracle::detail\n")
  set(old "")
  if(EXISTS ${output})
    file(READ ${output} old)
  endif()
  if(NOT "${old}" STREQUAL "${text}")
    file(WRITE ${output} "${text}")
  endif()
endfunction()
