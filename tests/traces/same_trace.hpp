#pragma once
/// Compares traces column by column, with the name of the first column that differs.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/traces/trace.hpp"

namespace loracle::testing {

template <class T>
void expect_same_column(std::string_view what, const Column<T>& a, const Column<T>& b) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (std::size_t i = 0; i < a.size(); ++i) ASSERT_EQ(a[i], b[i]) << what << " at " << i;
}

inline void expect_same_names(std::string_view what, const NameColumn& a, const NameColumn& b) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (std::size_t i = 0; i < a.size(); ++i) ASSERT_EQ(a[i], b[i]) << what << " at " << i;
}

/// Everything but source, format, mapping and skipped_lines.
inline void expect_same_requests(const Trace& a, const Trace& b) {
  ASSERT_EQ(a.requests, b.requests);
  expect_same_column("uses", a.uses, b.uses);
  expect_same_column("use_begin", a.use_begin, b.use_begin);
  expect_same_column("arrival_s", a.arrival_s, b.arrival_s);
  expect_same_column("input_tokens", a.input_tokens, b.input_tokens);
  expect_same_column("output_tokens", a.output_tokens, b.output_tokens);
  expect_same_column("tenant", a.tenant, b.tenant);
  expect_same_column("duration_s", a.duration_s, b.duration_s);
  expect_same_names("adapter names", a.adapters.name, b.adapters.name);
  expect_same_column("adapter bytes", a.adapters.bytes, b.adapters.bytes);
  expect_same_column("adapter rank", a.adapters.rank, b.adapters.rank);
  expect_same_names("tenant names", a.tenant_name, b.tenant_name);
}

inline void expect_same_trace(const Trace& a, const Trace& b) {
  EXPECT_EQ(a.source, b.source);
  EXPECT_EQ(a.format, b.format);
  EXPECT_EQ(a.mapping, b.mapping);
  EXPECT_EQ(a.skipped_lines, b.skipped_lines);
  expect_same_requests(a, b);
}

inline NameColumn names_of(const std::vector<std::string>& names) {
  std::vector<std::uint64_t> begin(1, 0);
  std::vector<char> text;
  for (const std::string& name : names) {
    text.insert(text.end(), name.begin(), name.end());
    begin.push_back(text.size());
  }
  return {Column<std::uint64_t>(std::move(begin)), Column<char>(std::move(text))};
}

inline Column<Row> rows_of(const std::vector<std::uint32_t>& values) {
  std::vector<Row> rows;
  for (const std::uint32_t value : values) rows.push_back(Row{value});
  return Column<Row>(std::move(rows));
}

/// Five requests with every column: none, one, two and three adapters; a tenant unknown; an adapter never
/// used.
inline Trace full_trace() {
  Trace trace;
  trace.source = "a \"quoted\" source";
  trace.format = "jsonl";
  trace.mapping = "tenant";
  trace.requests = 5;
  trace.skipped_lines = 3;
  trace.uses = rows_of({0, 1, 0, 2, 1, 0, 2});
  trace.use_begin = Column<std::uint64_t>(std::vector<std::uint64_t>{0, 1, 1, 3, 6, 7});
  trace.arrival_s = Column<double>(std::vector<double>{-0.5, 0, 0.1, 0.1, 1e9 / 3});
  trace.input_tokens = Column<std::uint32_t>(std::vector<std::uint32_t>{1, 0, 4294967295, 17, 2});
  trace.output_tokens = Column<std::uint32_t>(std::vector<std::uint32_t>{5, 6, 7, 8, 9});
  trace.tenant = Column<std::uint32_t>(std::vector<std::uint32_t>{0, kNoTenant, 1, 0, 1});
  trace.duration_s = Column<float>(std::vector<float>{0.0F, 0.1F, 3.5F, 1e-7F, 16777216.0F});
  trace.adapters.name = names_of({"sql", "st\"yle\\\n",
                                  "gr\xC3\xBC\xC3\x9F"
                                  "e",
                                  "unused"});
  trace.adapters.bytes = Column<std::uint64_t>(std::vector<std::uint64_t>{1, 0, 1ULL << 40U, 77});
  trace.adapters.rank = Column<std::uint16_t>(std::vector<std::uint16_t>{8, 16, 0, 65535});
  trace.tenant_name = names_of({"team a", "team b"});
  return trace;
}

}  // namespace loracle::testing
