#pragma once
/// Small traces for the tests of the plan and its page.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "loracle/core/rng.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle::testing {

/// Requests one second apart; each names the adapters of its batch, by number. Adapters are numbered in order
/// of first appearance, as a reader does.
inline Trace trace_of(const std::vector<std::vector<std::uint32_t>>& requests, float duration_s = 0) {
  std::vector<Row> uses;
  std::vector<std::uint64_t> begin = {0};
  std::vector<double> arrival;
  std::vector<std::uint32_t> row_of;
  std::vector<std::uint64_t> name_begin = {0};
  std::vector<char> names;
  std::uint32_t rows = 0;
  for (const auto& request : requests) {
    for (const std::uint32_t adapter : request) {
      if (row_of.size() <= adapter) row_of.resize(adapter + 1, 0xFFFF'FFFFU);
      if (row_of[adapter] == 0xFFFF'FFFFU) {
        row_of[adapter] = rows++;
        const std::string name = "adapter-" + std::to_string(adapter);
        names.insert(names.end(), name.begin(), name.end());
        name_begin.push_back(names.size());
      }
      uses.push_back(Row{row_of[adapter]});
    }
    begin.push_back(uses.size());
    arrival.push_back(static_cast<double>(arrival.size()));
  }
  Trace trace;
  trace.source = "made/by hand.jsonl";
  trace.format = "jsonl";
  trace.mapping = "lora";
  trace.requests = requests.size();
  trace.uses = Column<Row>(std::move(uses));
  trace.use_begin = Column<std::uint64_t>(std::move(begin));
  trace.arrival_s = Column<double>(std::move(arrival));
  if (duration_s > 0) trace.duration_s = Column<float>(std::vector<float>(requests.size(), duration_s));
  trace.adapters.name.begin = Column<std::uint64_t>(std::move(name_begin));
  trace.adapters.name.text = Column<char>(std::move(names));
  return trace;
}

/// Skewed requests over `adapters`, now and then of two at once.
inline Trace skewed_trace(std::uint64_t seed, std::uint32_t adapters, std::uint32_t requests,
                          float duration_s = 0) {
  Rng rng(seed);
  std::vector<std::vector<std::uint32_t>> made(requests);
  for (auto& request : made) {
    request.push_back(rng.below(1 + rng.below(adapters)));
    if (rng.below(20) == 0) request.push_back(rng.below(adapters));
  }
  return trace_of(made, duration_s);
}

/// Each of `adapters` in turn, `rounds` times.
inline Trace cyclic_trace(std::uint32_t adapters, std::uint32_t rounds, float duration_s = 0) {
  std::vector<std::vector<std::uint32_t>> made;
  for (std::uint32_t i = 0; i < adapters * rounds; ++i) made.push_back({i % adapters});
  return trace_of(made, duration_s);
}

/// Paragraphs in one line each: where a sentence wraps is not what it says.
inline std::string unwrapped(std::string text) {
  for (std::size_t at = 0; (at = text.find("\n          ", at)) != std::string::npos;)
    text.replace(at, 11, " ");
  return text;
}

}  // namespace loracle::testing
