#pragma once
/// Texts that the build embeds in the library: the page's style and script, and Vega with its licence.

#include <string_view>

namespace loracle::detail {

[[nodiscard]] std::string_view page_css() noexcept;
[[nodiscard]] std::string_view page_js() noexcept;
/// Defines the global `vega`; holds no "</script".
[[nodiscard]] std::string_view vega_js() noexcept;
[[nodiscard]] std::string_view vega_license() noexcept;

}  // namespace loracle::detail
