#pragma once
/// A service on adapters that were just made, on a port of its own, and a client of it.

#include <gtest/gtest.h>
#include <httplib.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "http_answer.hpp"
#include "loracle/engine/engine.hpp"
#include "loracle/engine/make_adapters.hpp"
#include "loracle/service/service.hpp"
#include "support/temp_dir.hpp"

namespace loracle::testing {

/// What the engine's one directory has.
class DirectoryDiscovery final : public Discovery {
 public:
  explicit DirectoryDiscovery(Engine& engine) : engine_(engine) {}
  Result<DiscoveryReport> refresh() override {
    Result<RefreshReport> found = engine_.refresh();
    if (!found) return fail(std::move(found.error()));
    return DiscoveryReport{engine_.stats().adapters_known, std::move(found->added)};
  }

 private:
  Engine& engine_;
};

/// Knows where adapters lie that nobody mentioned.
class FolderResolver final : public Resolver {
 public:
  explicit FolderResolver(std::string folder) : folder_(std::move(folder)) {}
  Result<ResolvedAdapter> resolve(const std::string& base_model, const std::string& name) override {
    ++asked;
    asked_base_model = base_model;
    if (on_ask) on_ask();
    const std::string directory = folder_ + "/" + std::string(name);
    if (!std::filesystem::exists(directory)) return fail(Errc::kNotFound, "there is no " + directory);
    return ResolvedAdapter{name, directory, "resolved-base"};
  }
  std::atomic<int> asked = 0;
  std::string asked_base_model;
  std::function<void()> on_ask;

 private:
  std::string folder_;
};

/// The machine's files, of which the data of some adapters' weights cannot be read: only their headers can.
class HollowFiles final : public Files {
 public:
  [[nodiscard]] Result<std::unique_ptr<OpenFile>> open(const std::string& path) override {
    Result<std::unique_ptr<OpenFile>> file = posix_files().open(path);
    const bool is_hollow =
        !hollow.empty() && path.find(hollow) != std::string::npos && path.ends_with(".safetensors");
    if (!file || !is_hollow) return file;
    return std::make_unique<HollowFile>(std::move(*file));
  }
  [[nodiscard]] Result<FileStat> stat(const std::string& path) override { return posix_files().stat(path); }
  [[nodiscard]] Result<std::vector<DirectoryEntry>> list(const std::string& directory) override {
    return posix_files().list(directory);
  }

  std::string hollow;  // what their paths contain; empty: none

 private:
  class HollowFile final : public OpenFile {
   public:
    explicit HollowFile(std::unique_ptr<OpenFile> file) : file_(std::move(file)) {
      std::uint64_t bytes = 0;
      EXPECT_TRUE(file_->read_at(0, std::as_writable_bytes(std::span(&bytes, 1))));
      header_end_ = sizeof bytes + bytes;
    }
    [[nodiscard]] const FileStat& stat() const noexcept override { return file_->stat(); }
    [[nodiscard]] Result<std::size_t> read_at(std::uint64_t offset, std::span<std::byte> into) override {
      if (offset >= header_end_) return fail(Errc::kIo, "the disk does not answer", 5);
      return file_->read_at(offset, into.first(std::min<std::size_t>(into.size(), header_end_ - offset)));
    }

   private:
    std::unique_ptr<OpenFile> file_;
    std::uint64_t header_end_ = 0;
  };
};

class ServiceScene : public ::testing::Test {
 protected:
  ServiceScene() {
    config_.base_model = "tiny-base";
    config_.log.level = "off";
    config_.engine.max_loras = 2;
    config_.engine.max_cpu_loras = 3;
    config_.engine.max_lora_rank = 64;
    config_.http.port = 0;
  }
  ~ServiceScene() override {
    service_.reset();
    engine_.reset();
  }

  static void make(const std::string& directory, const std::vector<std::string>& names,
                   std::uint32_t rank = 8, std::uint64_t seed = 1) {
    MakeAdaptersOptions options;
    options.directory = directory;
    options.names = names;
    options.ranks = {rank};
    options.model = *load_model_geometry("tiny");
    options.seed = seed;
    options.force = true;
    const Result<MadeAdapters> made = make_adapters(options);
    ASSERT_TRUE(made) << made.error().message;
  }
  void make(const std::vector<std::string>& names, std::uint32_t rank = 8) { make(root(), names, rank); }
  [[nodiscard]] std::string path(const std::string& name) const { return (folder_ / name).string(); }
  [[nodiscard]] std::string root() const { return path("adapters"); }

  void start() {
    ASSERT_NO_FATAL_FAILURE(open_engine());
    ASSERT_NO_FATAL_FAILURE(start_service());
  }
  void open_engine() {
    service_.reset();
    engine_.reset();
    config_.engine.directory = root();
    device_ = make_host_memory_device();
    const Env env{&posix_clock(), &files_, workers_.get(), device_.get(), origins_};
    Result<std::unique_ptr<Engine>> opened = Engine::open(config_.engine, env);
    ASSERT_TRUE(opened) << opened.error().message;
    engine_ = std::move(*opened);
    discovery_ = std::make_unique<DirectoryDiscovery>(*engine_);
  }
  void start_service() {
    Result<std::unique_ptr<Service>> started =
        Service::start(config_, {engine_.get(), &posix_clock(), discovery_.get(), resolver_.get()});
    ASSERT_TRUE(started) << started.error().message;
    service_ = std::move(*started);
  }

  [[nodiscard]] std::unique_ptr<httplib::Client> client() const {
    auto client = std::make_unique<httplib::Client>("127.0.0.1", service_->port());
    client->set_keep_alive(true);
    client->set_read_timeout(30);
    client->set_tcp_nodelay(true);
    return client;
  }
  [[nodiscard]] httplib::Response get(const std::string& target) const {
    return answer_of(client()->Get(target));
  }
  [[nodiscard]] httplib::Response post(const std::string& target, const std::string& body = {},
                                       const std::string& type = "application/json") const {
    return answer_of(client()->Post(target, body, type));
  }

  TempDir folder_;
  HollowFiles files_;
  ServiceConfig config_;
  std::unique_ptr<Workers> workers_ = make_thread_workers(2);
  std::unique_ptr<DeviceMemory> device_;
  std::vector<Origin*> origins_;
  std::unique_ptr<FolderResolver> resolver_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<DirectoryDiscovery> discovery_;
  std::unique_ptr<Service> service_;
};

/// The message of an error in vLLM's form.
inline std::string error_json(int code, const std::string& type, const std::string& message) {
  return R"({"error":{"message":")" + message + R"(","type":")" + type + R"(","param":null,"code":)" +
         std::to_string(code) + "}}";
}

}  // namespace loracle::testing
