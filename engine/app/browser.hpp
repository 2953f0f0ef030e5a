#pragma once
/// Chromium without a window, where it is installed: what a page holds once its script has run.

#include <string>
#include <string_view>

#include "loracle/core/result.hpp"

namespace loracle::app {

/// `what_for` is named when there is none. The browser is $CHROMIUM, else the first of chromium,
/// chromium-browser, google-chrome and google-chrome-stable on the PATH; it has a minute, and a folder of its
/// own that is removed. Errors: kNotFound (no browser), kIo (the temporary folder), kCorrupt (it gave
/// nothing).
[[nodiscard]] Result<std::string> document_after_scripts(std::string_view page, std::string_view what_for);

}  // namespace loracle::app
