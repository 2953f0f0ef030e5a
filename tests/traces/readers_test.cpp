#include "../../traces/src/readers.hpp"

#include <gtest/gtest.h>
#include <lzma.h>
#include <sys/stat.h>
#include <zlib.h>
#include <zstd.h>

#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "loracle/traces/check_trace.hpp"
#include "loracle/traces/ltr.hpp"
#include "loracle/traces/read.hpp"
#include "support/shared_data.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

using testing::TempDir;
using Names = std::vector<std::string>;

/// Reads `text` as a file of this name; the error names it as "<dir>/name".
class ReadText : public ::testing::Test {
 protected:
  Result<Trace> read(std::string_view name, std::string_view text, const ReadOptions& options = {}) {
    path_ = dir_.write(name, text);
    ReadOptions with_flag = options;
    if (offers_skip_) with_flag.skip_flag = "--skip-bad-lines";
    return read_trace(path_, with_flag);
  }
  /// The trace of a text that must be good.
  Trace good(std::string_view name, std::string_view text, const ReadOptions& options = {}) {
    Result<Trace> trace = read(name, text, options);
    EXPECT_TRUE(trace) << trace.error().message;
    if (!trace) return Trace{};
    const Result<Unit> sound = check_trace(*trace);
    EXPECT_TRUE(sound) << sound.error().message;
    return *trace;
  }
  /// The message, without the folder, of a text that must be bad. What a line's faults all end with, that it
  /// may be passed over, is left out; `can_skip_` says whether it was there.
  std::string refusal(std::string_view name, std::string_view text, const ReadOptions& options = {}) {
    const Result<Trace> trace = read(name, text, options);
    EXPECT_FALSE(trace) << "a trace of " << trace->requests << " requests";
    if (trace) return {};
    const std::string folder = dir_.path().string() + "/";
    std::string message = trace.error().message;
    can_skip_ = message.ends_with(" over such lines with --skip-bad-lines");
    if (can_skip_)
      message.resize(message.rfind(message.find("; or pass over") != std::string::npos ? "; or" : " Or"));
    const std::size_t at = message.find(folder);
    return at == std::string::npos ? message : message.substr(at + folder.size());
  }

  TempDir dir_;
  std::string path_;
  bool offers_skip_ = true;
  bool can_skip_ = false;
};

Names names_of(const NameColumn& column) {
  Names names;
  for (std::size_t i = 0; i < column.size(); ++i) names.emplace_back(column[i]);
  return names;
}

/// "a+b" for a request that uses a and b, "-" for the base model.
Names requests_of(const Trace& trace) {
  Names requests;
  for (std::uint64_t i = 0; i < trace.requests; ++i) {
    std::string together;
    for (const Row row : trace.batch(i)) {
      if (!together.empty()) together += '+';
      together += trace.adapters.name[index_of(row)];
    }
    requests.push_back(together.empty() ? "-" : together);
  }
  return requests;
}

template <class T>
std::vector<T> values(const Column<T>& column) {
  return {column.view().begin(), column.view().end()};
}

ReadOptions with_format(std::string format, std::string mapping = {}) {
  ReadOptions options;
  options.format = std::move(format);
  options.mapping = std::move(mapping);
  return options;
}

ReadOptions skipping(ReadOptions options = {}) {
  options.skip_bad_lines = true;
  return options;
}

// ---- JSONL

// Broken: a field of our own format is read into the wrong column, or rows are not numbered by first use.
TEST_F(ReadText, ReadsEveryFieldOfOurJsonl) {
  const Trace trace = good("t.jsonl",
                           "{\"type\":\"adapter\",\"adapter\":\"late\",\"bytes\":7,\"rank\":64}\n"
                           "{\"arrival_s\":0.5,\"adapter\":\"b\",\"input_tokens\":10,\"output_tokens\":2,"
                           "\"tenant\":\"t1\",\"duration_s\":1.5}\n"
                           "{\"arrival_s\":1,\"adapter\":[\"late\",\"b\"],\"input_tokens\":11,\"tenant\":7}\n"
                           "{\"adapter\":null,\"arrival_s\":2}\r\n"
                           "\n"
                           "{\"type\":\"adapter\",\"adapter\":\"never\",\"rank\":8}\n"
                           "{\"arrival_s\":3,\"x\":[1,{\"y\":\"\\u00e9\"}]}");
  EXPECT_EQ(trace.format, "jsonl");
  EXPECT_EQ(trace.mapping, "lora");
  EXPECT_EQ(requests_of(trace), (Names{"b", "late+b", "-", "-"}));
  EXPECT_EQ(names_of(trace.adapters.name), (Names{"b", "late", "never"}));
  EXPECT_EQ(values(trace.adapters.bytes), (std::vector<std::uint64_t>{0, 7, 0}));
  EXPECT_EQ(values(trace.adapters.rank), (std::vector<std::uint16_t>{0, 64, 8}));
  EXPECT_EQ(values(trace.arrival_s), (std::vector<double>{0.5, 1, 2, 3}));
  EXPECT_EQ(values(trace.input_tokens), (std::vector<std::uint32_t>{10, 11, 0, 0}));
  EXPECT_EQ(values(trace.output_tokens), (std::vector<std::uint32_t>{2, 0, 0, 0}));
  EXPECT_EQ(values(trace.duration_s), (std::vector<float>{1.5F, 0, 0, 0}));
  EXPECT_EQ(names_of(trace.tenant_name), (Names{"t1", "7"}));
  EXPECT_EQ(values(trace.tenant), (std::vector<std::uint32_t>{0, 1, kNoTenant, kNoTenant}));
}

// Broken: a trace without a field pays for its column, or the one-use-a-request shortcut is lost.
TEST_F(ReadText, MakesNoColumnForWhatNoRequestHas) {
  const Trace trace = good("t.jsonl", "{\"adapter\":\"a\"}\n{\"adapter\":\"b\"}\n{\"adapter\":\"a\"}\n");
  EXPECT_EQ(requests_of(trace), (Names{"a", "b", "a"}));
  EXPECT_TRUE(trace.use_begin.empty());
  EXPECT_TRUE(trace.arrival_s.empty() && trace.input_tokens.empty() && trace.output_tokens.empty());
  EXPECT_TRUE(trace.tenant.empty() && trace.duration_s.empty());
  EXPECT_TRUE(trace.adapters.bytes.empty() && trace.adapters.rank.empty());
}

// Broken: a batch holds an adapter twice, which a tier would try to lease twice.
TEST_F(ReadText, CountsAnAdapterOncePerRequest) {
  const Trace trace = good("t.jsonl", "{\"adapter\":[\"a\",\"b\",\"a\"]}\n{\"adapter\":[\"b\",\"b\"]}\n");
  EXPECT_EQ(requests_of(trace), (Names{"a+b", "b"}));
}

// Broken: replays see time run backwards, or equal times change places.
TEST_F(ReadText, SortsRequestsStablyAndSaysHowManyMoved) {
  const Trace trace = good("t.jsonl",
                           "{\"arrival_s\":2,\"adapter\":\"c\",\"input_tokens\":1}\n"
                           "{\"arrival_s\":1,\"adapter\":[\"a\",\"x\"],\"input_tokens\":2}\n"
                           "{\"arrival_s\":2,\"adapter\":\"d\",\"input_tokens\":3}\n"
                           "{\"arrival_s\":1,\"adapter\":\"b\",\"input_tokens\":4}\n");
  EXPECT_EQ(requests_of(trace), (Names{"a+x", "b", "c", "d"}));
  EXPECT_EQ(names_of(trace.adapters.name), (Names{"a", "x", "b", "c", "d"}));
  EXPECT_EQ(values(trace.input_tokens), (std::vector<std::uint32_t>{2, 4, 1, 3}));
  EXPECT_EQ(trace.reordered, 2U);
}

// Broken: an error points at the wrong line or byte, or does not say what to do.
TEST_F(ReadText, NamesFileLineAndByteOfEveryJsonlMistake) {
  const std::string ok = "{\"adapter\":\"a\"}\n";   // 16 bytes
  const std::string timed = "{\"arrival_s\":1}\n";  // 16 bytes
  EXPECT_EQ(refusal("t.jsonl", ok + "{\"adapter\":\"b\"\n"),
            "t.jsonl:2: not valid JSON: the line ends inside an object or array (byte 30): each line must be "
            "one JSON "
            "object");
  EXPECT_EQ(refusal("t.jsonl", ok + "{\"adaptor\":\"b\"}\n"),
            "t.jsonl:2: unknown key 'adaptor' (byte 17): did you mean 'adapter'?");
  EXPECT_EQ(refusal("t.jsonl", ok + "{\"arival_s\":1}\n"),
            "t.jsonl:2: unknown key 'arival_s' (byte 17): did you mean 'arrival_s'?");
  for (const std::string key : {"adapter_nam", "adapter_name", "lora_name"})
    EXPECT_EQ(
        refusal("t.jsonl", ok + "{\"" + key + "\":\"b\"}\n"),
        "t.jsonl:2: a request without an adapter, but with '" + key +
            "' (byte 17): call it \"adapter\"; a request of the base model has \"adapter\": null beside it");
  const Result<Trace> sound =
      read("t.jsonl", ok + "{\"adapter\":null,\"adapter_name\":\"b\"}\n" +
                          "{\"adapter\":\"a\",\"lora_path\":\"/b\"}\n{\"lora_rank\":8}\n");
  ASSERT_TRUE(sound) << sound.error().message;
  EXPECT_EQ(sound->requests, 4U);
  EXPECT_EQ(refusal("t.jsonl", ok + "[1]\n"),
            "t.jsonl:2: not a JSON object (byte 16): write one {...} a line");
  EXPECT_EQ(refusal("t.jsonl", ok + "{\"adapter\":1.5}\n"),
            "t.jsonl:2: adapter is the number 1.5 (byte 27): give a name, or a whole number");
  EXPECT_EQ(refusal("t.jsonl", ok + "{\"adapter\":\"\"}\n"),
            "t.jsonl:2: adapter is an empty name (byte 27): leave it out for the base model");
  EXPECT_EQ(refusal("t.jsonl", ok + "{\"adapter\":[\"a\",null]}\n"),
            "t.jsonl:2: adapter has null in its list (byte 32): leave it out of the list");
  EXPECT_EQ(refusal("t.jsonl", ok + "{\"input_tokens\":-1}\n"),
            "t.jsonl:2: input_tokens is '-1' (byte 32): give a whole number, 0 to 4294967295");
  EXPECT_EQ(refusal("t.jsonl", ok + "{\"input_tokens\":\"5\"}\n"),
            "t.jsonl:2: input_tokens is text (byte 32): give a whole number, without quotes");
  EXPECT_EQ(refusal("t.jsonl", ok + "{\"output_tokens\":4294967296}\n"),
            "t.jsonl:2: output_tokens is '4294967296' (byte 33): give a whole number, 0 to 4294967295");
  EXPECT_EQ(refusal("t.jsonl", ok + "{\"duration_s\":1e999}\n"),
            "t.jsonl:2: duration_s is '1e999' (byte 30): give a number of seconds from 0");
  EXPECT_EQ(refusal("t.jsonl", ok + "{\"type\":\"lora\"}\n"),
            "t.jsonl:2: type is 'lora' (byte 24): give request, adapter or trace, or leave it out");
  EXPECT_EQ(refusal("t.jsonl", ok + "{\"type\":\"adapter\"}\n"),
            "t.jsonl:2: an adapter line with 0 adapters (byte 16): write "
            "{\"type\":\"adapter\",\"adapter\":\"NAME\",\"bytes\":N,\"rank\":N}");
  EXPECT_EQ(refusal("t.jsonl", ok + "{\"type\":\"adapter\",\"adapter\":\"a\",\"rank\":65536}\n"),
            "t.jsonl:2: rank is '65536' (byte 55): give a whole number, 0 to 65535");
  EXPECT_EQ(refusal("t.jsonl", ok + "{\"adapter\":\"a\",\"bytes\":5}\n"),
            "t.jsonl:2: bytes or rank in a request (byte 39): give them in a line of \"type\":\"adapter\"");
  EXPECT_EQ(refusal("t.jsonl", ok + "{\"adapter\":\"a\xFF\"}\n"),
            "t.jsonl:2: not valid JSON: a string that is not UTF-8 ends here (byte 30): each line must be "
            "one JSON object");
  EXPECT_EQ(
      refusal("t.jsonl", ok + timed),
      "t.jsonl:2: an arrival time, though the requests before have none (byte 16): give every request an "
      "arrival time, or none");
  EXPECT_EQ(refusal("t.jsonl", timed + ok),
            "t.jsonl:2: no arrival time, though the requests before have one (byte 16): give every request "
            "an arrival time, or none");
}

// Broken: one bad line ends a long run although the user asked to go on, or bad lines vanish without a count.
TEST_F(ReadText, SkipsAndCountsBadLinesWhenAsked) {
  const std::string text =
      "{\"adapter\":\"a\"}\nnot "
      "json\n{\"adapter\":\"b\",\"tenant\":3.5}\n{\"adapter\":\"c\"}\n{\"type\":\"x\"}\n";
  ReadOptions options = skipping();
  options.format = "jsonl";
  const Trace trace = good("t.jsonl", text, options);
  EXPECT_EQ(requests_of(trace), (Names{"a", "c"}));
  EXPECT_EQ(names_of(trace.adapters.name), (Names{"a", "c"})) << "a skipped line left something behind";
  EXPECT_EQ(trace.skipped_lines, 3U);
  options.skip_bad_lines = false;
  EXPECT_EQ(refusal("t.jsonl", text, options),
            "t.jsonl:2: not a JSON object (byte 16): write one {...} a line");
}

// Broken: a file of garbage reads as an empty trace.
TEST_F(ReadText, RefusesAFileWithoutARequest) {
  ReadOptions options = with_format("jsonl");
  EXPECT_EQ(refusal("t.jsonl", ""), "t.jsonl:1: the file is empty: give a trace");
  EXPECT_EQ(refusal("t.jsonl", "", options), "t.jsonl:1: the file is empty: give a trace");
  EXPECT_EQ(refusal("t.jsonl", "\n\n", options), "t.jsonl:2: the file ends without a request: give a trace");
  EXPECT_EQ(refusal("t.csv", "adapter,arrival_s\n"),
            "t.csv:1: the file ends without a request: give a trace");
  const std::string all_bad = refusal("t.jsonl", "1\n2\n", skipping(options));
  EXPECT_EQ(all_bad.substr(0, all_bad.find(" The first")),
            "t.jsonl:2: no request in 2 lines, 2 of them bad: is this another format?");
}

// Broken: a 10 GB file without line breaks is taken into memory, or what follows a long line is misread.
TEST_F(ReadText, BoundsTheLengthOfALine) {
  const std::string long_line = "{\"adapter\":\"" + std::string(200'000, 'x') + "\"}\n";
  const std::string text = "{\"adapter\":\"a\"}\n" + long_line + "{\"adapter\":\"b\"}\n";
  ReadOptions options;
  EXPECT_EQ(good("t.jsonl", text, options).requests, 3U);
  options.line_bytes_max = 1000;
  EXPECT_EQ(refusal("t.jsonl", text, options),
            "t.jsonl:2: longer than 1000 bytes (byte 1016): raise the line limit, or is this not the text "
            "format it was "
            "taken for?");
  const Trace trace = good("t.jsonl", text, skipping(options));
  EXPECT_EQ(requests_of(trace), (Names{"a", "b"}));
  EXPECT_EQ(trace.skipped_lines, 1U);
}

// Broken: a limit of requests is off by one or ignored by a format.
TEST_F(ReadText, StopsAtTheGivenNumberOfRequests) {
  ReadOptions options;
  options.requests_max = 2;
  EXPECT_EQ(requests_of(good("t.jsonl", "{\"adapter\":\"a\"}\n{\"adapter\":\"b\"}\nnever read\n", options)),
            (Names{"a", "b"}));
  EXPECT_EQ(requests_of(good("t.csv", "adapter\na\nb\nc\n", options)), (Names{"a", "b"}));
}

// ---- CSV

// Broken: a column map by name or number picks the wrong column, or a header is taken for a request.
TEST_F(ReadText, ReadsCsvByColumnMap) {
  ReadOptions options;
  options.columns = "adapter=2,arrival_s=0,input_tokens=in_tok,tenant=who,bytes=4,rank=5";
  const Trace by_name = good("t.csv",
                             "when,who,lora,in_tok,size,r\n"
                             "0.5,\"Smith, J.\",a|b,10,100,8\n"
                             "1.5,\"the \"\"other\"\"\",c,20.0,300,16\n"
                             "2,,,,,\n",
                             options);
  EXPECT_EQ(by_name.format, "csv");
  EXPECT_EQ(requests_of(by_name), (Names{"a+b", "c", "-"}));
  EXPECT_EQ(names_of(by_name.tenant_name), (Names{"Smith, J.", "the \"other\""}));
  EXPECT_EQ(values(by_name.input_tokens), (std::vector<std::uint32_t>{10, 20, 0}));
  EXPECT_EQ(values(by_name.adapters.bytes), (std::vector<std::uint64_t>{0, 0, 300}))
      << "facts go to single adapters";
  EXPECT_EQ(values(by_name.adapters.rank), (std::vector<std::uint16_t>{0, 0, 16}));

  options.columns = "adapter=0,duration_ms=latency";
  EXPECT_EQ(values(good("t.csv", "lora,latency\na,1500\n", options).duration_s), (std::vector<float>{1.5F}));

  options.columns = "adapter=1,arrival_s=0";
  EXPECT_EQ(requests_of(good("t.csv", "0,a\n1,b\n", options)), (Names{"a", "b"})) << "no header";
  EXPECT_EQ(requests_of(good("t.csv", "when,what\n0,a\n1,b\n", options)), (Names{"a", "b"}))
      << "header: no number";
  EXPECT_EQ(requests_of(good("t.tsv", "0\ta\n1\tb\n", options)), (Names{"a", "b"}));
  EXPECT_EQ(requests_of(good("t.csv", "0;a\n1;b,c\n", options)), (Names{"a", "b,c"}));
  options.columns = "adapter=0";
  EXPECT_EQ(requests_of(good("t.csv", "a\nb\n", options)), (Names{"a", "b"}));
  EXPECT_EQ(requests_of(good("t.csv", "lora_id\nb\n", options)), (Names{"b"}));
  options.columns = "adapter=0,header=no";
  EXPECT_EQ(requests_of(good("t.csv", "lora_id\nb\n", options)), (Names{"lora_id", "b"}));
  options.columns = "adapter=0,header=yes";
  EXPECT_EQ(requests_of(good("t.csv", "q\nb\n", options)), (Names{"b"}));
}

// Broken: dates are shifted, or an epoch column makes the trace begin in 1970.
TEST_F(ReadText, CountsDatesAndEpochTimesFromTheEarliest) {
  EXPECT_EQ(values(good("t.csv", "adapter,arrival_s\na,1700000001.5\nb,1700000000\n").arrival_s),
            (std::vector<double>{0, 1.5}));
  EXPECT_EQ(values(good("t.csv", "adapter,arrival_s\na,1700000000000\nb,1700000000250\n").arrival_s),
            (std::vector<double>{0, 0.25}));
  EXPECT_EQ(values(good("t.csv", "adapter,arrival_s\na,2024-02-28T23:59:59Z\nb,2024-02-29T01:00:00+01:00\n")
                       .arrival_s),
            (std::vector<double>{0, 1}));
  EXPECT_EQ(values(good("t.csv", "adapter,arrival_s\na,5\nb,7\n").arrival_s), (std::vector<double>{5, 7}))
      << "the source's own zero stays";
}

TEST_F(ReadText, OffersToPassOverLinesOnlyWhereItCan) {
  // If this failed, somebody would be sent to a flag that cannot help, or not hear of the one that does.
  const std::string ok = "{\"adapter\":\"a\"}\n";
  refusal("t.jsonl", ok + "oops\n");
  EXPECT_TRUE(can_skip_);
  refusal("t.jsonl", ok + "{\"adaptor\":\"b\"}\n");
  EXPECT_TRUE(can_skip_);
  refusal("t.csv", "adapter,arrival_s\na,1\nb\n");
  EXPECT_TRUE(can_skip_);
  ReadOptions columns;
  columns.columns = "adapter=nobody";
  for (const auto& [name, text, options] : {std::tuple{"empty.jsonl", "", ReadOptions{}},
                                            {"t.dat", "plain words\n", ReadOptions{}},
                                            {"t.csv", "adapter,arrival_s\na,1\n", columns}}) {
    const std::string message = refusal(name, text, options);
    EXPECT_EQ(message.find("--skip-bad-lines"), std::string::npos) << message;
  }
  offers_skip_ = false;
  const std::string bare = refusal("t.jsonl", ok + "oops\n");
  EXPECT_EQ(bare.find("pass over"), std::string::npos) << bare << " from a caller that has no such flag";
}

// Broken: a wrong column map, quote or width is accepted or reported without a place.
TEST_F(ReadText, NamesEveryCsvMistake) {
  ReadOptions options;
  options.columns = "adapter=who";
  EXPECT_EQ(refusal("t.csv", "whom,b\n1,2\n", options),
            "t.csv:1: no column 'who' in the header (whom,b) (byte 0): give a name of the header or a number "
            "(did you "
            "mean 'whom'?)");
  options.columns = "adapter=2";
  EXPECT_EQ(refusal("t.csv", "a,b\n", options),
            "t.csv:1: no column 2: the first line has 2 (byte 0): give adapter a number from 0 to 1");
  options.columns = "adapter";
  EXPECT_EQ(refusal("t.csv", "a,b\n", options),
            "columns 'adapter': 'adapter' names no column: write field=column, such as adapter=2");
  options.columns = "adaptr=1";
  const std::string message = refusal("t.csv", "a,b\n", options);
  EXPECT_EQ(message.substr(0, 62), "columns 'adaptr=1': no field 'adaptr' (did you mean 'adapter'?");
  options.columns = "adapter=0,duration_s=1,duration_ms=2";
  EXPECT_EQ(refusal("t.csv", "a,1,1000\n", options),
            "t.csv:1: both duration_s and duration_ms (byte 0): name one of them in a column map");
  options.columns = "arrival_s=0";
  EXPECT_EQ(
      refusal("t.csv", "0\n", options),
      "t.csv:1: mapping 'lora' needs a column for adapter (byte 0): add adapter=COLUMN to the column map, or "
      "choose another mapping");
  options.columns.clear();
  EXPECT_EQ(refusal("t.csv", "adapter,arrival_s\na,1\nb\n"),
            "t.csv:3: 1 fields, where the first line has 2 (byte 22): complete the line; a delimiter inside "
            "a field "
            "needs quotes");
  EXPECT_EQ(
      refusal("t.csv", "adapter,arrival_s\n\"a,1\n"),
      "t.csv:2: the quote is not closed on its line (byte 18): close it; a field cannot hold a line break");
  EXPECT_EQ(refusal("t.csv", "adapter,arrival_s\n\"a\"b,1\n"),
            "t.csv:2: something follows a closing quote (byte 21): double the quotes inside a field");
  EXPECT_EQ(
      refusal("t.csv", "adapter,arrival_s\na,soon\n"),
      "t.csv:2: arrival_s is 'soon' (byte 20): give seconds from 0, an epoch number or a date, of one kind "
      "throughout");
  const Trace rest = good("t.csv", "adapter,arrival_s\na,soon\nb\n\"c\nd,4\n", skipping());
  EXPECT_EQ(requests_of(rest), (Names{"d"}));
  EXPECT_EQ(rest.skipped_lines, 3U);
}

// ---- formats of others

// Broken: GenTD26's LoRA lists, tenants or times are misread.
TEST_F(ReadText, ReadsGentd26) {
  const std::string text =
      "seq,t_s,group,task,base,loras,prompt_chars,neg_chars,n_images,steps,exec_s,status\n"
      "0,10,G1,T2I,B0,,1,,1,30,32,SUCCEED\n"
      "1,20,G2,T2I,B0,L3:0.8|L1:-1,1,,1,30,7,FAILED\n"
      "2,20,G1,T2I,B0,L1:1,1,,1,30,5,SUCCEED\n";
  const Trace trace = good("x.csv", text);
  EXPECT_EQ(trace.format, "gentd26");
  EXPECT_EQ(trace.mapping, "lora");
  EXPECT_EQ(requests_of(trace), (Names{"-", "L3+L1", "L1"}));
  EXPECT_EQ(values(trace.arrival_s), (std::vector<double>{10, 20, 20}));
  EXPECT_EQ(values(trace.duration_s), (std::vector<float>{32, 7, 5}));
  EXPECT_EQ(requests_of(good("x.csv", text, with_format("auto", "lora:first"))), (Names{"-", "L3", "L1"}));
  EXPECT_EQ(requests_of(good("x.csv", text, with_format("auto", "tenant"))), (Names{"G1", "G2", "G1"}));
  EXPECT_EQ(refusal("x.csv", text + "3,30,G1,T2I,B0,L1:x,1,,1,30,5,SUCCEED\n"),
            "x.csv:5: the scale of 'L1:x' is no number (byte " + std::to_string(text.size() + 18) +
                "): write loras as NAME:SCALE|NAME:SCALE");
  EXPECT_EQ(refusal("x.csv", text + "3,,G1,T2I,B0,L1:1,1,,1,30,5,SUCCEED\n"),
            "x.csv:5: no arrival time, though the requests before have one (byte " +
                std::to_string(text.size()) + "): give every request an arrival time, or none");
}

// Broken: the untimed part, whose time column is empty, is refused or gets times of 0.
TEST_F(ReadText, ReadsGentd26WithoutTimes) {
  const Trace trace = good("x.csv", "seq,t_s,group,loras,exec_s\n0,,,L1:1,18\n1,,,,28\n");
  EXPECT_EQ(requests_of(trace), (Names{"L1", "-"}));
  EXPECT_TRUE(trace.arrival_s.empty() && trace.tenant.empty());
}

// Broken: Azure's stamps lose their fraction, or the synthetic mapping goes unnamed.
TEST_F(ReadText, ReadsAzure) {
  const std::string text =
      "TIMESTAMP,ContextTokens,GeneratedTokens\n"
      "2023-11-16 18:15:46.6805900,374,44\n"
      "2023-11-16 18:15:50.9951690,396,109\n";
  const Trace trace = good("a.csv", text);
  EXPECT_EQ(trace.format, "azure");
  EXPECT_EQ(trace.mapping, "zipf:adapters=100:alpha=0.9:seed=1");
  ASSERT_EQ(trace.requests, 2U);
  EXPECT_EQ(trace.arrival_s[0], 0);
  EXPECT_NEAR(trace.arrival_s[1], 4.314579, 1e-9);
  EXPECT_EQ(values(trace.input_tokens), (std::vector<std::uint32_t>{374, 396}));
  EXPECT_EQ(
      refusal("a.csv", text + "2023-11-31 18:15:50,1,1\n"),
      "a.csv:4: TIMESTAMP is '2023-11-31 18:15:50' (byte 111): write it as 2023-11-16 18:15:46.6805900");
  EXPECT_EQ(refusal("a.csv", text, with_format("azure", "lora")),
            "mapping 'lora': azure traces have no such field: give one of zipf, s-lora-power");
}

// Broken: either published layout of BurstGPT is refused, or sessions are mixed up.
TEST_F(ReadText, ReadsBothLayoutsOfBurstgpt) {
  const std::string six =
      "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
      "5,ChatGPT,472,18,490,Conversation log\n"
      "45,GPT-4,1087,0,1087,API log\n";
  const Trace models = good("b.csv", six, with_format("auto", "lora"));
  EXPECT_EQ(models.format, "burstgpt");
  EXPECT_EQ(requests_of(models), (Names{"ChatGPT", "GPT-4"}));
  EXPECT_EQ(values(models.arrival_s), (std::vector<double>{5, 45}));
  EXPECT_EQ(good("b.csv", six).mapping, "zipf:adapters=100:alpha=0.9:seed=1");
  EXPECT_EQ(refusal("b.csv", six, with_format("auto", "session")).substr(0, 47),
            "b.csv:1: no column 'Session ID' in the header (");

  const Trace sessions =
      good("b.csv",
           "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log "
           "Type\n"
           "19.0,s-1,43,GPT-4,906,446,1352,Conversation log\n"
           "20.0,,2,ChatGPT,36,29,65,API log\n",
           with_format("burstgpt", "session"));
  EXPECT_EQ(requests_of(sessions), (Names{"s-1", "-"}));
  EXPECT_EQ(values(sessions.duration_s), (std::vector<float>{43, 2}));
}

// Broken: Mooncake's conversations are split, or joined by the system prompt they all share.
TEST_F(ReadText, TellsMooncakeSessionsByTheSecondBlock) {
  const std::string text =
      "{\"timestamp\": 0, \"input_length\": 6758, \"output_length\": 500, \"hash_ids\": [0, 1, 2]}\n"
      "{\"timestamp\": 3000, \"input_length\": 7, \"output_length\": 5, \"hash_ids\": [0, 14]}\n"
      "{\"timestamp\": 3000, \"input_length\": 8, \"output_length\": 5, \"hash_ids\": [0, 1, 9]}\n"
      "{\"timestamp\": 4500, \"input_length\": 1, \"output_length\": 1, \"hash_ids\": [0]}\n"
      "{\"timestamp\": 4500, \"input_length\": 1, \"output_length\": 1, \"hash_ids\": [0]}\n";
  const Trace trace = good("m.jsonl", text);
  EXPECT_EQ(trace.format, "mooncake");
  EXPECT_EQ(trace.mapping, "session");
  EXPECT_EQ(requests_of(trace),
            (Names{"session-1", "session-14", "session-1", "session-alone-4", "session-alone-5"}));
  EXPECT_EQ(values(trace.arrival_s), (std::vector<double>{0, 3, 3, 4.5, 4.5}));
  EXPECT_EQ(values(trace.input_tokens), (std::vector<std::uint32_t>{6758, 7, 8, 1, 1}));
  const Trace drawn = good("m.jsonl", text, with_format("auto", "session:adapters=3"));
  EXPECT_EQ(drawn.mapping, "session:adapters=3:alpha=0.9:seed=1");
  EXPECT_EQ(drawn.uses[0], drawn.uses[2]) << "a session keeps its adapter for life";
  EXPECT_LE(drawn.rows(), 3U);
  EXPECT_EQ(refusal("m.jsonl", text + "{\"input_length\": 1}\n"),
            "m.jsonl:6: no timestamp (byte " + std::to_string(text.size()) +
                "): is this a file of format mooncake?");
}

// Broken: one of the shapes in which servers log requests is not understood.
TEST_F(ReadText, ReadsOpenaiLogsInTheirManyShapes) {
  const std::string text =
      "{\"model\":\"sql\",\"created\":1700000000,\"user\":\"u1\",\"usage\":{\"prompt_tokens\":5,"
      "\"completion_tokens\":6},\"latency_ms\":1500}\n"
      "{\"timestamp\":1700000001.5,\"request\":{\"model\":\"base\",\"lora_request\":{\"lora_int_id\":1,"
      "\"lora_name\":"
      "\"chat\"},\"messages\":[{\"role\":\"user\",\"model\":\"trap\"}]}}\n"
      "{\"custom_id\":\"r\",\"method\":\"POST\",\"body\":{\"model\":\"base\"},\"time\":1700000002}\n"
      "{\"response\":{\"status_code\":200,\"body\":{\"model\":\"sql\",\"created\":1700000003,"
      "\"usage\":{\"input_tokens\":7,\"output_tokens\":8}}}}\n"
      "{\"model\":\"base\",\"lora_request\":null,\"created\":1700000004,\"session_id\":\"s\"}\n";
  const Trace trace = good("o.jsonl", text);
  EXPECT_EQ(trace.format, "openai");
  EXPECT_EQ(trace.mapping, "lora");
  EXPECT_EQ(requests_of(trace), (Names{"sql", "chat", "base", "sql", "-"}));
  EXPECT_EQ(values(trace.arrival_s), (std::vector<double>{0, 1.5, 2, 3, 4}));
  EXPECT_EQ(values(trace.input_tokens), (std::vector<std::uint32_t>{5, 0, 0, 7, 0}));
  EXPECT_EQ(values(trace.output_tokens), (std::vector<std::uint32_t>{6, 0, 0, 8, 0}));
  EXPECT_EQ(values(trace.duration_s), (std::vector<float>{1.5F, 0, 0, 0, 0}));
  const Trace based = good("o.jsonl", text, with_format("openai", "lora:base=base"));
  EXPECT_EQ(requests_of(based), (Names{"sql", "chat", "-", "sql", "-"}));
  EXPECT_EQ(based.mapping, "lora:base=base");
  EXPECT_EQ(requests_of(good("o.jsonl", text, with_format("openai", "tenant"))),
            (Names{"u1", "-", "-", "-", "-"}));
  EXPECT_EQ(requests_of(good("o.jsonl", text, with_format("openai", "session"))),
            (Names{"-", "-", "-", "-", "s"}));

  EXPECT_EQ(values(good("o.jsonl",
                        "{\"model\":\"a\",\"time\":\"2024-01-01T00:00:00Z\"}\n"
                        "{\"model\":\"a\",\"time\":\"2024-01-01T00:00:00.25Z\"}\n")
                       .arrival_s),
            (std::vector<double>{0, 0.25}));
  EXPECT_EQ(refusal("o.jsonl", "{\"model\":\"a\",\"created\":1700000000}\n{\"level\":\"info\"}\n"),
            "o.jsonl:2: no model and no lora_name (byte 35): is this line a request?");
  EXPECT_EQ(refusal("o.jsonl", "{\"model\":\"a\",\"created\":\"yesterday\"}\n"),
            "o.jsonl:1: the time is 'yesterday' (byte 23): give epoch seconds (or ms, us, ns), a date, or "
            "seconds from "
            "0, of one kind throughout");
}

// Broken: keys are read in the wrong byte order, or a file that was cut off passes.
TEST_F(ReadText, ReadsCache2kKeysInBothByteOrders) {
  const std::string keys("\x00\x00\x00\x01\xFF\xFF\xFF\xFE\x00\x00\x00\x01", 12);
  ReadOptions options;
  options.big_endian = true;
  const Trace trace = good("web.trace", keys, options);
  EXPECT_EQ(trace.format, "cache2k");
  EXPECT_EQ(requests_of(trace), (Names{"1", "-2", "1"}));
  EXPECT_EQ(requests_of(good("web.trace", keys)), (Names{"16777216", "-16777217", "16777216"}));
  EXPECT_EQ(
      refusal("web.trace", keys.substr(0, 10), options),
      "web.trace: 10 bytes, no multiple of the 4 of a key: is the file cut off, or not a cache2k stream?");
}

// ---- ServeGen

const char* const kRates =
    "client,t_s,rate_rps,cv,pattern,shape,scale\n"
    "7,600,0.5,1,Gamma,0.5,2\n"
    "8,0,0.25,1,Weibull,0.01,1\n"
    "7,0,0.1,1,Gamma,2,1\n";

// Broken: a client's rate or window is lost in the realisation, or one client's requests all come at one
// moment.
TEST_F(ReadText, RealisesServegenWindowByWindow) {
  const Trace trace = good("s.csv", kRates);
  EXPECT_EQ(trace.format, "servegen");
  EXPECT_EQ(trace.mapping, "client:seed=1");
  EXPECT_EQ(trace.requests, 300U + 150U + 60U) << "rate x 600 s in each window";
  EXPECT_EQ(std::set<std::string>({"7", "8"}), [&] {
    const Names names = names_of(trace.adapters.name);
    return std::set<std::string>(names.begin(), names.end());
  }());
  std::uint64_t early = 0;
  for (std::uint64_t i = 0; i < trace.requests; ++i) early += trace.arrival_s[i] < 600 ? 1 : 0;
  EXPECT_EQ(early, 210U);
  EXPECT_LT(trace.arrival_s[trace.requests - 1], 1200);
}

// Broken: a run cannot be repeated, or a shorter run is not the beginning of the longer one.
TEST_F(ReadText, RealisesServegenEquallyForEqualSeeds) {
  ReadOptions options;
  const Trace first = good("s.csv", kRates, options);
  const Trace again = good("s.csv", kRates, options);
  EXPECT_EQ(values(first.arrival_s), values(again.arrival_s));
  options.requests_max = 100;
  const Trace shorter = good("s.csv", kRates, options);
  ASSERT_EQ(shorter.requests, 100U);
  for (std::uint64_t i = 0; i < 100; ++i) EXPECT_EQ(shorter.arrival_s[i], first.arrival_s[i]);
  options.requests_max = 0;
  options.seed = 2;
  EXPECT_NE(values(good("s.csv", kRates, options).arrival_s), values(first.arrival_s));
}

// Broken: the client mapping's parameters do not thin or cut, or are not repeated.
TEST_F(ReadText, ThinsAndCutsServegen) {
  const Trace thin = good("s.csv", kRates, with_format("auto", "client:rate=0.1"));
  EXPECT_EQ(thin.mapping, "client:rate=0.1:seed=1");
  EXPECT_EQ(thin.requests, 51U);
  const Trace cut = good("s.csv", kRates, with_format("auto", "client:from_s=600:to_s=1200:seed=9"));
  EXPECT_EQ(cut.mapping, "client:from_s=600:to_s=1200:seed=9");
  EXPECT_EQ(cut.requests, 300U);
  EXPECT_GE(cut.arrival_s[0], 600);
}

// Broken: a table of rates that would fill the memory is realised anyway, or a bad row passes.
TEST_F(ReadText, RefusesServegenItCannotRealise) {
  EXPECT_EQ(
      refusal("s.csv",
              "client,t_s,rate_rps,pattern,shape\na,0,80000,Gamma,1\nb,0,80000,Gamma,1\nc,0,80000,Gamma,1\n"),
      "s.csv: the rates make about 144000000 requests, more than 100000000: bound them with a number of "
      "requests, "
      "or map by client:rate=0.01 or client:to_s=3600");
  EXPECT_EQ(refusal("s.csv", "client,t_s,rate_rps,pattern,shape\na,0,1,Pareto,1\n"),
            "s.csv:2: pattern is 'Pareto' (byte 40): give Gamma or Weibull");
  EXPECT_EQ(refusal("s.csv", "client,t_s,rate_rps,pattern,shape\na,0,1,Gamma,0\n"),
            "s.csv:2: shape is '0' (byte 46): give a number above 0");
  EXPECT_EQ(refusal("s.csv", "client,t_s,rate_rps,pattern,shape\na,0,-1,Gamma,1\n"),
            "s.csv:2: rate_rps is '-1' (byte 38): give requests per second from 0");
}

// ---- choosing the format

// Broken: a user has to name a format that name or content tells.
TEST(DetectFormat, TellsEveryFormatByNameOrContent) {
  EXPECT_EQ(detect_format("a/t.jsonl.gz", "{\"arrival_s\":1}\n"), "jsonl");
  EXPECT_EQ(detect_format("t", "{\"adaptor\":\"a\"}"), "jsonl") << "its reader says what was meant";
  EXPECT_EQ(detect_format("t", "\xEF\xBB\xBF\n {\"type\":\"adapter\",\"adapter\":\"a\"}"), "jsonl");
  EXPECT_EQ(detect_format("t", "{\"timestamp\":0,\"input_length\":1,\"hash_ids\":[1,2,"), "mooncake")
      << "cut line";
  EXPECT_EQ(detect_format("t", "{\"id\":1,\"body\":{\"model\":\"x\"}}"), "openai");
  EXPECT_EQ(detect_format("t", "{\"tenant\":\"t\",\"model\":\"x\"}"), "openai");
  EXPECT_EQ(detect_format("t", "{\"arrival_s\":1,\"lora_name\":\"x\"}"), "jsonl")
      << "its reader says which key";
  EXPECT_EQ(detect_format("t", "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"), "azure");
  EXPECT_EQ(detect_format("t", "Timestamp,Model,Request tokens,Response tokens\n"), "burstgpt");
  EXPECT_EQ(detect_format("t", "seq,t_s,group,loras,exec_s"), "gentd26");
  EXPECT_EQ(detect_format("t", "client,t_s,rate_rps,cv,pattern,shape,scale"), "servegen");
  EXPECT_EQ(detect_format("t", "x;\"Adapter\";y\n"), "csv");
  EXPECT_EQ(detect_format("dir.csv/T.CSV.xz", "x,y\n"), "csv");
  EXPECT_EQ(detect_format("x.oracleGeneral.zst", std::string_view("\0\1\2", 3)), "oracleGeneral");
  EXPECT_EQ(detect_format("web12.trace.xz", std::string_view("\0\0\0\1", 4)), "cache2k");
  EXPECT_EQ(detect_format("t", std::string_view("\x89LTR\r\n\x1A\n", 8)), "ltr");
  EXPECT_EQ(detect_format("README.md", "# Traces\n"), "");
  EXPECT_EQ(detect_format("t.bin", std::string_view("\0\0\0\1", 4)), "");
}

// Broken: a mistyped name, format or option gets no hint.
TEST_F(ReadText, SaysWhatWasMeant) {
  EXPECT_EQ(refusal("t.jsonl", "{}", with_format("jsonlines")).substr(0, 44),
            "format 'jsonlines': no such trace format: gi");
  EXPECT_EQ(refusal("t.jsonl", "{}", with_format("orcalegeneral")).substr(0, 82),
            "format 'orcalegeneral': no such trace format (did you mean 'oracleGeneral'?): give");
  EXPECT_EQ(refusal("t.jsonl", "{}", with_format("jsonl", "tenants")),
            "mapping 'tenants': no such mapping (did you mean 'tenant'?): give one of lora, tenant, client, "
            "session, "
            "zipf, s-lora-power");
  EXPECT_EQ(refusal("t.md", "# Hi\n").substr(0, 60),
            "t.md:1: neither name nor content tells the format: name it, ");
  ReadOptions options = with_format("azure");
  options.columns = "adapter=1";
  EXPECT_EQ(refusal("t.csv", "a\n", options),
            "columns 'adapter=1': a column map is for csv, not azure: leave it out");
  options.format = "auto";
  EXPECT_EQ(refusal("t.jsonl", "{\"adapter\":\"a\"}\n", options).substr(0, 20), "t.jsonl: is no table");
  EXPECT_EQ(refusal("u.jsonl", "{\"adaptor\":\"a\"}\n"),
            "u.jsonl:1: unknown key 'adaptor' (byte 1): did you mean 'adapter'?");
  EXPECT_EQ(refusal("v.log", "INFO Received request x: lora_request: None.\n").substr(0, 26),
            "v.log:1: vLLM's text log d");
  const Result<Trace> absent = read_trace((dir_ / "absent.jsonl").string(), {});
  ASSERT_FALSE(absent);
  EXPECT_EQ(absent.error().code, Errc::kNotFound);
}

// Broken: reading a pipe to tell its format eats the start of it, or hangs.
TEST_F(ReadText, AsksForTheFormatOfAPipe) {
  const std::string pipe = (dir_ / "pipe").string();
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const Result<Trace> trace = read_trace(pipe, {});
  ASSERT_FALSE(trace);
  EXPECT_NE(trace.error().message.find("cannot tell the format of what is no regular file"),
            std::string::npos);
}

// Broken: an .ltr forgets how its requests were mapped, so a report names the wrong mapping.
TEST_F(ReadText, KeepsTheMappingThatAnLtrWasMadeWith) {
  const Trace azure = good("a.csv",
                           "TIMESTAMP,ContextTokens,GeneratedTokens\n"
                           "2023-11-16 18:15:46,374,44\n2023-11-16 18:15:50,396,109\n");
  const std::string path = (dir_ / "a.ltr").string();
  ASSERT_TRUE(write_ltr(azure, path));
  const Result<Trace> read = read_trace(path, {});
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->mapping, "zipf:adapters=100:alpha=0.9:seed=1");
  EXPECT_EQ(read->format, "azure");
  EXPECT_EQ(read->source, path);
  EXPECT_EQ(requests_of(*read), requests_of(azure));
  ReadOptions options = with_format("auto", "s-lora-power:seed=3");
  options.requests_max = 1;
  const Result<Trace> drawn = read_trace(path, options);
  ASSERT_TRUE(drawn) << drawn.error().message;
  EXPECT_EQ(drawn->requests, 1U);
  EXPECT_EQ(drawn->mapping, "s-lora-power:adapters=100:alpha=0.1:seed=3");
}

// Broken: folding on the way in is skipped, or goes unnamed in reports.
TEST_F(ReadText, FoldsOnTheWayIn) {
  ReadOptions options;
  options.fold_period_s = 10;
  const Trace trace = good("t.csv", "adapter,arrival_s\na,8\nb,13\nc,21\n", options);
  EXPECT_EQ(requests_of(trace), (Names{"c", "b", "a"}));
  EXPECT_EQ(values(trace.arrival_s), (std::vector<double>{1, 3, 8}));
  EXPECT_EQ(trace.mapping, "lora, folded onto 10 s");
  EXPECT_NE(refusal("t.jsonl", "{\"adapter\":\"a\"}\n", options), "") << "nothing to fold by";
}

// ---- compression

std::string gzipped(const std::string& text) {
  std::string out(compressBound(static_cast<uLong>(text.size())) + 64, '\0');
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string in = text;
  stream.next_in = reinterpret_cast<Bytef*>(in.data());
  stream.avail_in = static_cast<uInt>(in.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string zstandard(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

std::string xz(const std::string& text) {
  std::string out(lzma_stream_buffer_bound(text.size()), '\0');
  std::size_t size = 0;
  EXPECT_EQ(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC64, nullptr,
                                    reinterpret_cast<const std::uint8_t*>(text.data()), text.size(),
                                    reinterpret_cast<std::uint8_t*>(out.data()), &size, out.size()),
            LZMA_OK);
  out.resize(size);
  return out;
}

// Broken: a compressed trace reads differently from a plain one, or error positions count compressed bytes.
TEST_F(ReadText, ReadsCompressedTextTheSame) {
  std::string text;
  for (int i = 0; i < 20'000; ++i)
    text += "{\"arrival_s\":" + std::to_string(i) + ",\"adapter\":\"a" + std::to_string(i % 7) + "\"}\n";
  const Trace plain = good("t.jsonl", text);
  const std::string bad = text + "oops\n";
  for (const auto& compress : {gzipped, zstandard, xz}) {
    const Trace trace = good("t.jsonl", compress(text));
    EXPECT_EQ(requests_of(trace), requests_of(plain));
    EXPECT_EQ(values(trace.arrival_s), values(plain.arrival_s));
    EXPECT_EQ(refusal("t.jsonl", compress(bad)),
              "t.jsonl:20001: not valid JSON: no JSON value begins like this (byte " +
                  std::to_string(text.size()) + "): each line must be one JSON object");
    const std::string cut = compress(text).substr(0, compress(text).size() / 2);
    EXPECT_NE(refusal("t.jsonl", cut), "") << "a truncated stream passed for a short one";
  }
}

// ---- real files

// Broken: the joined GenTD26 log gives other counts than were counted by hand.
TEST(RealTraces, Gentd26HasItsKnownUses) {
  LORACLE_SHARED_FILE(timed, "traces/gentd26/adapter_requests_timed_d00-11.csv.gz");
  const Result<Trace> trace = read_trace(timed.string(), {});
  ASSERT_TRUE(trace) << trace.error().message;
  EXPECT_EQ(trace->requests, 9'930U);
  EXPECT_EQ(trace->uses.size(), 1'573U);
  EXPECT_EQ(trace->rows(), 174U);
  EXPECT_EQ(trace->skipped_lines + trace->reordered, 0U);
  LORACLE_SHARED_FILE(untimed, "traces/gentd26/adapter_requests_untimed.csv.gz");
  const Result<Trace> earlier = read_trace(untimed.string(), {});
  ASSERT_TRUE(earlier) << earlier.error().message;
  EXPECT_EQ(earlier->requests, 41'372U);
  EXPECT_EQ(earlier->uses.size(), 11'851U);
  EXPECT_EQ(earlier->rows(), 637U);
}

// Broken: a request of the Azure log is lost.
TEST(RealTraces, AzureHasAllItsRequests) {
  LORACLE_SHARED_FILE(file, "traces/azure_llm2023/AzureLLMInferenceTrace_conv.csv.gz");
  const Result<Trace> trace = read_trace(file.string(), {});
  ASSERT_TRUE(trace) << trace.error().message;
  EXPECT_EQ(trace->requests, 19'366U);
  EXPECT_NEAR(trace->arrival_s[trace->requests - 1], 3501.72, 0.01);
}

// Broken: the rule by the second block no longer gives the connected components that a union-find gave
// (7,373).
TEST(RealTraces, MooncakeHasItsKnownSessions) {
  LORACLE_SHARED_FILE(file, "traces/mooncake/conversation_trace.jsonl.zst");
  const Result<Trace> trace = read_trace(file.string(), {});
  ASSERT_TRUE(trace) << trace.error().message;
  EXPECT_EQ(trace->requests, 12'031U);
  EXPECT_EQ(trace->rows(), 7'373U);
}

// Broken: real client rates, with their extreme shapes, are not realised at their rate (236,893 expected at
// 1/1000).
TEST(RealTraces, ServegenKeepsItsRates) {
  LORACLE_SHARED_FILE(file, "traces/servegen/language_m-large_client_rates.csv.xz");
  const Result<Trace> trace = read_trace(file.string(), with_format("servegen", "client:rate=0.001"));
  ASSERT_TRUE(trace) << trace.error().message;
  EXPECT_NEAR(static_cast<double>(trace->requests), 236'893, 1'000);
  EXPECT_EQ(trace->rows(), 162U);
}

// Broken: keys of the cache2k streams are lost or merged.
TEST(RealTraces, Cache2kHasItsKeys) {
  LORACLE_SHARED_FILE(file, "traces/cache2k/web12.trace.xz");
  ReadOptions options;
  options.big_endian = true;
  const Result<Trace> trace = read_trace(file.string(), options);
  ASSERT_TRUE(trace) << trace.error().message;
  EXPECT_EQ(trace->requests, 95'607U);
  EXPECT_EQ(trace->rows(), 13'756U);
  EXPECT_EQ(trace->adapters.name[1], "1");
}

}  // namespace
}  // namespace loracle
