// The recording of real requests: a trace that traces/ reads and the simulator replays.

#include "service/capture.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "loracle/sim/tier_replay.hpp"
#include "loracle/traces/read.hpp"
#include "service_scene.hpp"

namespace loracle::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

ReadOptions as_jsonl() {
  ReadOptions options;
  options.format = "jsonl";  // the name of a rotated file does not say so
  return options;
}

class CaptureScene : public ServiceScene {};

TEST_F(CaptureScene, AReplayOfTheRecordingHasTheEnginesHits) {
  // If this failed, `loracle plan` would size a cache for traffic that never was.
  make({"a0", "a1", "a2", "a3", "a4"});
  config_.capture.path = path("trace.jsonl");
  start();
  const auto http = client();
  std::uint64_t state = 12345;
  for (int i = 0; i < 120; ++i) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    const std::string first = "a" + std::to_string((state >> 33U) % 5);
    const std::string second = "a" + std::to_string((state >> 41U) % 5);
    const bool is_pair = (state >> 50U) % 4 == 0 && first != second;
    const json body = {{"adapters", is_pair ? json({first, second}) : json({first})}, {"tenant", "t"}};
    const httplib::Response lease = answer_of(http->Post("/v1/acquire", body.dump(), "application/json"));
    ASSERT_EQ(lease.status, 200) << lease.body;
    const std::string id = json::parse(lease.body)["lease"];
    ASSERT_EQ(answer_of(http->Post("/v1/release", json({{"lease", id}}).dump(), "application/json")).status,
              200);
  }
  ASSERT_EQ(post("/v1/adapters/nobody/acquire").status, 404);  // no request for anything there is
  ASSERT_TRUE(service_->drain());
  const HierarchyCounts counts = engine_->stats().counts;

  const Result<Trace> trace = read_trace(path("trace.jsonl"), {});
  ASSERT_TRUE(trace) << trace.error().message;
  EXPECT_EQ(trace->requests, 120U);
  EXPECT_EQ(trace->adapters.rank[0], 8);
  EXPECT_GT(trace->adapters.bytes[0], 0U);
  EXPECT_GT(trace->duration_s[0], 0);
  ASSERT_EQ(trace->tenant_name.size(), 1U);
  EXPECT_EQ(trace->tenant_name[0], "t");
  for (std::uint64_t i = 1; i < trace->requests; ++i) ASSERT_GE(trace->arrival_s[i], trace->arrival_s[i - 1]);

  const Result<BatchStream> stream = make_batch_stream(*trace);
  ASSERT_TRUE(stream);
  TierOptions options;
  options.tiers = "lru/lru";
  options.max_loras = 2;
  options.max_cpu_loras = 3;
  const Result<TierReplay> replayed = replay_tiers(*stream, options);
  ASSERT_TRUE(replayed) << replayed.error().message;
  EXPECT_EQ(replayed->counts, counts);
  EXPECT_GT(counts.gpu_hits, 0U);
  EXPECT_GT(counts.gpu_evictions, 0U);
}

TEST_F(CaptureScene, RequestsThatFoundNoRoomAreRecorded) {
  // If this failed, the plan for a cache that is too small would never see what it could not serve.
  make({"a0", "a1", "a2"});
  config_.capture.path = path("trace.jsonl");
  start();
  ASSERT_EQ(post("/v1/acquire", R"({"adapters":["a0","a1"]})").status, 200);
  ASSERT_EQ(post("/v1/adapters/a2/acquire", R"({"timeout_s":0.05})").status, 504);
  service_->hurry();  // the leases are not released
  ASSERT_TRUE(service_->drain());
  const Result<Trace> trace = read_trace(path("trace.jsonl"), {});
  ASSERT_TRUE(trace) << trace.error().message;
  EXPECT_EQ(trace->requests, 2U);
  EXPECT_EQ(trace->rows(), 3U);
}

service::CapturedRequest request_of(std::uint64_t i) {
  service::CapturedRequest request;
  request.adapters = {{"adapter-" + std::to_string(i % 7), 1000 + i % 7, 16}};
  request.arrived_ns = 1'000'000'000 + i * 1'000'000;
  request.held_ns = 500;
  return request;
}

TEST(Capture, FilesAreRotatedBoundedAndReadableAlone) {
  // If this failed, recording would fill the disk, or leave files that cannot be read.
  const TempDir folder;
  CaptureConfig config;
  config.path = (folder / "t.jsonl").string();
  config.files_max = 3;
  config.max_size = Bytes{3 * 65'536};
  {
    auto capture = service::Capture::open(config, 1'000'000'000, [](const Error&) { FAIL(); });
    ASSERT_TRUE(capture) << capture.error().message;
    for (std::uint64_t i = 0; i < 20'000; ++i) (*capture)->add(request_of(i));
    EXPECT_EQ((*capture)->counts().requests, 20'000U);
    EXPECT_EQ((*capture)->counts().dropped, 0U);
  }
  std::uint64_t bytes = 0;
  std::uint64_t files = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder.path())) {
    ++files;
    bytes += entry.file_size();
    const Result<Trace> trace = read_trace(entry.path().string(), as_jsonl());
    ASSERT_TRUE(trace) << trace.error().message;
    EXPECT_EQ(trace->rows(), 7U);
    for (std::uint32_t row = 0; row < 7; ++row) EXPECT_EQ(trace->adapters.rank[row], 16) << entry.path();
  }
  EXPECT_EQ(files, 3U);
  EXPECT_LE(bytes, config.max_size.value);
  const Result<Trace> last = read_trace(config.path, {});
  ASSERT_TRUE(last);
  EXPECT_DOUBLE_EQ(last->arrival_s[last->requests - 1], 19.999) << "the newest are in the file of that name";
}

TEST(Capture, AnEarlierRecordingIsKept) {
  // If this failed, a restart would destroy yesterday's recording.
  const TempDir folder;
  CaptureConfig config;
  config.path = folder.write("t.jsonl", "{\"adapter\":\"old\"}\n");
  {
    ASSERT_TRUE(service::Capture::open(config, 0, [](const Error&) {}));
  }
  const Result<Trace> old = read_trace(config.path + ".1", as_jsonl());
  ASSERT_TRUE(old);
  EXPECT_EQ(old->adapters.name[0], "old");
}

TEST(Capture, RestartsWithoutTrafficKeepEveryRecording) {
  // If this failed, a service that cannot start would rotate all recordings away, one at each try.
  const TempDir folder;
  CaptureConfig config;
  config.path = folder.write("t.jsonl", "{\"adapter\":\"old\"}\n");
  config.files_max = 2;
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(service::Capture::open(config, 0, [](const Error&) {}));
  const Result<Trace> old = read_trace(config.path + ".1", as_jsonl());
  ASSERT_TRUE(old);
  EXPECT_EQ(old->adapters.name[0], "old");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 2);
}

TEST(Capture, WhatCannotBeWrittenIsToldOnceAndCostsNothing) {
  // If this failed, a full disk would end the service, or fill its log.
  const TempDir folder;
  CaptureConfig config;
  config.path = (folder / "nowhere/t.jsonl").string();
  const auto refused = service::Capture::open(config, 0, [](const Error&) {});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("nowhere/t.jsonl"), std::string::npos);
  config.path = (folder / "t.jsonl").string();
  config.files_max = 0;
  EXPECT_FALSE(service::Capture::open(config, 0, [](const Error&) {}));
  config.files_max = 4;
  config.max_size = Bytes{1000};
  EXPECT_FALSE(service::Capture::open(config, 0, [](const Error&) {}));
  config.max_size = Bytes{4 * 65'536};
  std::atomic<int> errors = 0;
  auto capture = service::Capture::open(config, 0, [&](const Error&) { ++errors; });
  ASSERT_TRUE(capture);
  fs::create_directory(config.path + ".1");  // the file cannot be moved out of the way
  std::ofstream(config.path + ".1/x") << "x";
  for (std::uint64_t i = 0; i < 20'000; ++i) {
    (*capture)->add(request_of(i));
    if (i % 1000 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  for (int i = 0; i < 1000 && errors == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(errors, 1);
  EXPECT_GT((*capture)->counts().failed_writes, 0U);
}

}  // namespace
}  // namespace loracle::testing
