// What a request of `loracle serve` costs beside a bare cpp-httplib route that answers with the same bytes,
// in turns, over keep-alive connections of one client: the list of 10,000 adapters, and small requests while
// 16 loads run. Checks that both answer the same. LORACLE_BENCH_SMALL=1 shrinks it, for a test that it still
// runs and is right.

#include <benchmark/benchmark.h>
#include <httplib.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "loracle/engine/engine.hpp"
#include "loracle/engine/make_adapters.hpp"
#include "loracle/service/service.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

namespace fs = std::filesystem;

bool small() { return std::getenv("LORACLE_BENCH_SMALL") != nullptr; }

/// A service over `tiny` adapters, the files of all but a few being links to those of the first.
class Served {
 public:
  Served() {
    MakeAdaptersOptions options;
    options.directory = (folder_ / "adapters").string();
    options.names = {"first"};
    options.model = *load_model_geometry("tiny");
    if (!make_adapters(options)) return;
    for (const std::string& name : numbered_adapter_names(small() ? 50 : 9'983)) link(name);
    options.names = numbered_adapter_names(kLoaded);
    for (std::string& name : options.names) name = "large-" + name;
    options.ranks = {64};
    options.directory = (folder_ / "large").string();
    if (!make_adapters(options)) return;
    for (const std::string& name : options.names) loaded.push_back((folder_ / "large").string() + "/" + name);
    ServiceConfig config;
    config.base_model = "tiny";
    config.log.level = "off";
    config.http.port = 0;
    config.engine.directory = (folder_ / "adapters").string();
    config.engine.max_loras = 2;
    config.engine.max_lora_rank = 64;
    config.engine.max_cpu_loras = 4;
    Result<std::unique_ptr<Engine>> opened =
        Engine::open(config.engine, {&posix_clock(), &posix_files(), workers_.get(), device_.get(), {}});
    if (!opened) return;
    engine = std::move(*opened);
    Result<std::unique_ptr<Service>> started =
        Service::start(config, {engine.get(), &posix_clock(), nullptr, nullptr});
    if (started) service = std::move(*started);
  }
  ~Served() {
    service.reset();
    engine.reset();
  }

  static constexpr std::uint64_t kLoaded = 16;
  std::vector<std::string> loaded;  // directories of adapters of another size

 private:
  void link(const std::string& name) const {
    const fs::path from = folder_ / "adapters" / "first";
    const fs::path to = folder_ / "adapters" / name;
    fs::create_directory(to);
    for (const char* file : {"adapter_config.json", "adapter_model.safetensors"})
      fs::create_hard_link(from / file, to / file);
  }

  testing::TempDir folder_;
  std::unique_ptr<Workers> workers_ = make_thread_workers(2);
  std::unique_ptr<DeviceMemory> device_ = make_host_memory_device();

 public:
  std::unique_ptr<Engine> engine;
  std::unique_ptr<Service> service;
};

/// cpp-httplib, and one route that answers with what it is given.
class Bare {
 public:
  explicit Bare(const std::string& body) {
    server_.new_task_queue = [] { return new httplib::ThreadPool(4); };
    server_.set_tcp_nodelay(true);
    server_.set_keep_alive_max_count(1U << 30U);
    server_.Get("/same", [body](const httplib::Request&, httplib::Response& response) {
      response.set_content(body, "application/json");
    });
    port = server_.bind_to_any_port("127.0.0.1");
    thread_ = std::thread([this] { server_.listen_after_bind(); });
    while (!server_.is_running()) std::this_thread::yield();
  }
  Bare(const Bare&) = delete;
  Bare& operator=(const Bare&) = delete;
  ~Bare() {
    server_.stop();
    thread_.join();
  }

  int port = 0;

 private:
  httplib::Server server_;
  std::thread thread_;
};

std::unique_ptr<httplib::Client> client_of(int port) {
  auto client = std::make_unique<httplib::Client>("127.0.0.1", port);
  client->set_keep_alive(true);
  client->set_tcp_nodelay(true);
  return client;
}

double median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Our answer's time in medians over the bare one's; below 0 if they differ.
double against_bare(benchmark::State& state, const Served& scene, const std::string& target, int rounds) {
  const auto ours = client_of(scene.service->port());
  const httplib::Result first = ours->Get(target);
  if (!first || first->status != 200) return -1;
  const Bare bare(first->body);
  const auto theirs = client_of(bare.port);
  std::vector<double> ours_us;
  std::vector<double> theirs_us;
  for (int round = 0; round < rounds; ++round) {
    const std::uint64_t begun = posix_clock().now_ns();
    const httplib::Result mine = ours->Get(target);
    const std::uint64_t between = posix_clock().now_ns();
    const httplib::Result same = theirs->Get("/same");
    const std::uint64_t ended = posix_clock().now_ns();
    if (!mine || !same || mine->status != 200 || mine->body.size() != same->body.size()) return -1;
    ours_us.push_back(static_cast<double>(between - begun) / 1e3);
    theirs_us.push_back(static_cast<double>(ended - between) / 1e3);
  }
  const double mine = median(ours_us);
  const double peer = median(theirs_us);
  state.counters["ours_us"] = mine;
  state.counters["bare_us"] = peer;
  state.counters["bytes"] = static_cast<double>(first->body.size());
  return mine / peer;
}

void list_of_10000_models(benchmark::State& state) {
  const Served scene;
  if (!scene.service) return state.SkipWithError("the service did not start");
  for (auto _ : state) {
    const double ratio = against_bare(state, scene, "/v1/models", small() ? 3 : 101);
    if (ratio < 0) return state.SkipWithError("an answer is not what it should be");
    state.counters["ratio"] = ratio;
  }
}
BENCHMARK(list_of_10000_models)->Iterations(1)->Unit(benchmark::kMillisecond);

/// Argument: loads under way at any time.
void small_request(benchmark::State& state) {
  const Served scene;
  if (!scene.service) return state.SkipWithError("the service did not start");
  std::atomic<bool> ending = false;
  std::atomic<std::uint64_t> loads = 0;
  std::vector<std::thread> loading;
  for (std::int64_t i = 0; i < state.range(0); ++i) {
    loading.emplace_back([&, i] {
      const auto client = client_of(scene.service->port());
      const std::string body = R"({"lora_name":"x)" + std::to_string(i) + R"(","lora_path":")" +
                               scene.loaded[static_cast<std::size_t>(i)] + R"(","load_inplace":true})";
      while (!ending) {
        const httplib::Result done = client->Post("/v1/load_lora_adapter", body, "application/json");
        loads += done && done->status == 200 ? 1U : 0U;
      }
    });
  }
  for (auto _ : state) {
    const double ratio = against_bare(state, scene, "/v1/adapters/first", small() ? 20 : 4'001);
    if (ratio < 0)
      state.SkipWithError("an answer is not what it should be");
    else
      state.counters["ratio"] = ratio;
  }
  ending = true;
  for (std::thread& thread : loading) thread.join();
  state.counters["loads"] = static_cast<double>(loads);
}
BENCHMARK(small_request)->Arg(0)->Arg(16)->Iterations(1)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace loracle

BENCHMARK_MAIN();
