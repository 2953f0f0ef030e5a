#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "../../traces/src/line_reader.hpp"
#include "../../traces/src/parse_values.hpp"
#include "../../traces/src/trace_builder.hpp"
#include "loracle/core/rng.hpp"
#include "loracle/traces/json_cursor.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

using testing::TempDir;

bool accepts(std::string_view text) {
  std::string scratch;
  JsonCursor json(text, scratch);
  json.skip();
  return json.finish();
}

// Broken: a log that every other JSON reader takes is refused, or garbage passes as JSON.
TEST(JsonCursor, AgreesWithAnotherParserOnWhatIsJson) {
  std::vector<std::string> texts = {"{}",
                                    "[]",
                                    "null",
                                    "true",
                                    "false",
                                    "0",
                                    "-0",
                                    "01",
                                    "1.",
                                    ".5",
                                    "1e5",
                                    "1E+5",
                                    "1e",
                                    "-",
                                    "+1",
                                    "\"\"",
                                    "\"a",
                                    "\"\\n\"",
                                    "\"\\x\"",
                                    "\"\\u00e9\"",
                                    "\"\\u00g9\"",
                                    "\"\\ud83d\\ude00\"",
                                    "\"\\ud83d\"",
                                    "\"\\ude00\"",
                                    "\"\t\"",
                                    "\"\xC3\xA9\"",
                                    "\"\xC3\"",
                                    "\"\xED\xA0\x80\"",
                                    "\"\xF4\x90\x80\x80\"",
                                    "\"\xC0\x80\"",
                                    "[1,2]",
                                    "[1,]",
                                    "[,1]",
                                    "[1 2]",
                                    "{\"a\":1}",
                                    "{\"a\":1,}",
                                    "{\"a\"}",
                                    "{a:1}",
                                    "{\"a\":}",
                                    "{\"a\":1 \"b\":2}",
                                    "{\"a\":[{\"b\":[]}]}",
                                    "[[[]]",
                                    "[]]",
                                    "tru",
                                    "nulll",
                                    "",
                                    "  ",
                                    " [ 1 , { } ] ",
                                    "{} {}",
                                    "NaN",
                                    "inf"};
  // And mutations of a real line.
  const std::string line =
      R"({"adapter":["a\u00e9","b"],"arrival_s":1.25e2,"tenant":null,"x":{"y":[true,-0.5]}})";
  Rng rng(1);
  for (int i = 0; i < 20'000; ++i) {
    std::string mutant = line;
    for (std::uint32_t edits = 1 + rng.below(3); edits > 0; --edits) {
      const std::uint32_t at = rng.below(static_cast<std::uint32_t>(mutant.size()));
      constexpr std::string_view kBytes = "{}[]:,\"\\0e.-u nt\xC3\xA9\x01";
      if (rng.below(2) == 0)
        mutant.erase(at, 1);
      else
        mutant[at] = kBytes[rng.below(static_cast<std::uint32_t>(kBytes.size()))];
    }
    texts.push_back(mutant);
  }
  int accepted = 0;
  for (const std::string& text : texts) {
    EXPECT_EQ(accepts(text), nlohmann::json::accept(text)) << text;
    accepted += accepts(text) ? 1 : 0;
  }
  EXPECT_GT(accepted, 1'000);
}

// Broken: names with escapes come out wrong, or move while the line is still being read.
TEST(JsonCursor, DecodesStringsAndKeepsThem) {
  const std::string text = R"(["\u0041\n","plain","\ud83d\ude00x","\"\\\/\b\f\r\t"])";
  std::string scratch;
  JsonCursor json(text, scratch);
  ASSERT_TRUE(json.enter_array());
  std::vector<std::string_view> strings;
  while (json.next_element()) {
    strings.emplace_back();
    ASSERT_TRUE(json.read_string(strings.back()));
  }
  ASSERT_TRUE(json.finish());
  EXPECT_EQ(strings, (std::vector<std::string_view>{"A\n", "plain", "\xF0\x9F\x98\x80x", "\"\\/\b\f\r\t"}));
}

// Broken: a line of a million brackets overflows the stack.
TEST(JsonCursor, BoundsNesting) {
  EXPECT_TRUE(accepts(std::string(64, '[') + std::string(64, ']')));
  EXPECT_FALSE(accepts(std::string(65, '[') + std::string(65, ']')));
  EXPECT_FALSE(accepts(std::string(1'000'000, '[')));
}

// Broken: a line is split, joined or misplaced where a buffer ends.
TEST(LineReader, KeepsLinesNumbersAndOffsetsAcrossBuffers) {
  const TempDir dir;
  Rng rng(5);
  std::string text = "\xEF\xBB\xBF";
  std::vector<std::pair<std::string, std::uint64_t>> lines;
  for (int i = 0; i < 300; ++i) {
    std::string line(rng.below(i % 10 == 0 ? 200'000 : 80), static_cast<char>('a' + i % 26));
    lines.emplace_back(line, text.size());
    text += line + (i % 3 == 0 ? "\r\n" : "\n");
  }
  lines.emplace_back("the end", text.size());
  text += "the end";  // without a line break
  Result<ByteSource> source = ByteSource::open(dir.write("t", text));
  ASSERT_TRUE(source);
  LineReader reader(*source, 1U << 20U);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const Result<bool> more = reader.next();
    ASSERT_TRUE(more && *more);
    ASSERT_EQ(reader.line(), lines[i].first) << i;
    ASSERT_EQ(reader.offset(), lines[i].second);
    ASSERT_EQ(reader.number(), i + 1);
    ASSERT_FALSE(reader.too_long());
  }
  EXPECT_FALSE(*reader.next());
}

// Broken: a line of exactly the limit is refused, one byte more is not, or the line after it is lost.
TEST(LineReader, CutsLinesBehindTheLimit) {
  const TempDir dir;
  for (const std::size_t limit : {std::size_t{5}, std::size_t{100'000}}) {
    const std::string fits(limit, 'x');
    const std::string text =
        fits + "\r\n" + fits + "y\n" + fits + "yyyy\r\n" + std::string(300'000, 'z') + "\nend\n" + fits + "y";
    Result<ByteSource> source = ByteSource::open(dir.write("t", text));
    ASSERT_TRUE(source);
    LineReader reader(*source, limit);
    std::string seen;
    while (*reader.next())
      seen += reader.too_long() ? 'L' : reader.line() == fits ? 'f' : reader.line() == "end" ? 'e' : '?';
    EXPECT_EQ(seen, "fLLLeL") << limit;
  }
}

// Broken: numbers that are none pass, or a locale or a data frame's ".0" changes one.
TEST(ParseValues, TakesWholeFieldsOnly) {
  EXPECT_EQ(parse_number(" -2.5e1 "), -25.0);
  for (const char* bad : {"", " ", "1x", "inf", "nan", "0x10", "1,5", "--1", "1e999", "+1"})
    EXPECT_FALSE(parse_number(bad)) << bad;
  EXPECT_EQ(parse_count("18446744073709551615"), 18446744073709551615ULL);
  EXPECT_EQ(parse_count("12.0"), 12U);
  for (const char* bad : {"-1", "1.5", "18446744073709551616", "1e30", ""})
    EXPECT_FALSE(parse_count(bad)) << bad;
}

// Broken: a log's clock is off by a leap day, a zone or a fraction.
TEST(ParseValues, ReadsDates) {
  EXPECT_EQ(parse_iso_ns("1970-01-01T00:00:00Z"), 0);
  EXPECT_EQ(parse_iso_ns("2000-02-29 12:34:56.789"), 951827696789000000);
  EXPECT_EQ(parse_iso_ns("2023-11-16 18:15:46.6805900"), 1700158546680590000);
  EXPECT_EQ(parse_iso_ns("2024-05-10 00:00:00.009930+00:00"), 1715299200009930000);
  EXPECT_EQ(parse_iso_ns("1969-12-31T23:00:00-0100"), 0);
  for (const char* bad :
       {"2023-02-29 00:00:00", "2023-13-01 00:00:00", "2023-01-01", "2023-01-01 24:00:00",
        "2023-01-01 00:00:00.", "2023-01-01 00:00:00+99:00", "2023-01-01 00:00:00 x", "1700000000"})
    EXPECT_FALSE(parse_iso_ns(bad)) << bad;
}

// Broken: a log whose stamps change kind half way gets arrival times that are years apart.
TEST(ArrivalClock, KeepsToTheKindOfTheFirstStamp) {
  ArrivalClock epoch;
  EXPECT_EQ(epoch.seconds("1700000000"), 0.0);
  EXPECT_EQ(epoch.seconds("1700000060"), 60.0);
  EXPECT_EQ(epoch.seconds("1699999999"), -1.0);
  EXPECT_FALSE(epoch.seconds("1700000060000"));
  EXPECT_FALSE(epoch.seconds("2023-11-16 18:15:46"));
  ArrivalClock nanoseconds;
  EXPECT_EQ(nanoseconds.seconds("1700000000000000000"), 0.0);
  EXPECT_NEAR(*nanoseconds.seconds("1700000000500000000"), 0.5, 1e-6);
  ArrivalClock relative;
  EXPECT_EQ(relative.seconds("0.25"), 0.25);
  EXPECT_FALSE(relative.seconds("-1"));
  EXPECT_FALSE(relative.is_absolute());
}

// Broken: two names share a row, or one name has two, once the table has grown.
TEST(NameTable, NumbersNamesDenselyAsItGrows) {
  NameTable table;
  for (int round = 0; round < 2; ++round)
    for (std::uint32_t i = 0; i < 50'000; ++i) ASSERT_EQ(table.intern("name-" + std::to_string(i)), i);
  ASSERT_EQ(table.intern(""), 50'000U) << "the empty name is a name";
  EXPECT_EQ(table.size(), 50'001U);
  EXPECT_EQ(table[49'999], "name-49999");
  const NameColumn column = table.take();
  EXPECT_EQ(column.size(), 50'001U);
  EXPECT_EQ(column[123], "name-123");
  EXPECT_EQ(table.size(), 0U);
}

}  // namespace
}  // namespace loracle
