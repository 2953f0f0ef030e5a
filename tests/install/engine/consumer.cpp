// The engine in another program, from nothing to a slot: makes three adapters of a tiny model, opens an
// engine with two slots over them, and serves a request for two.
// If it fails, loracle::engine cannot be built against, linked or run from an install.

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "loracle/engine/engine.hpp"
#include "loracle/engine/make_adapters.hpp"

namespace {

int complain(const loracle::Error& error) {
  std::fprintf(stderr, "FAILED: %s\n", error.message.c_str());
  return 1;
}

int serve(const std::string& directory) {
  loracle::MakeAdaptersOptions adapters;
  adapters.directory = directory;
  adapters.names = {"billing-en", "support-de", "support-en"};
  adapters.ranks = {4, 8};
  if (auto model = loracle::known_model("tiny"); model)
    adapters.model = std::move(*model);
  else
    return complain(model.error());
  if (const auto made = loracle::make_adapters(adapters); !made) return complain(made.error());

  // The world the engine runs in; it must be there longer than the engine.
  const std::unique_ptr<loracle::Workers> workers = loracle::make_thread_workers(4);
  const std::unique_ptr<loracle::DeviceMemory> device = loracle::make_host_memory_device();
  const loracle::Env env{&loracle::posix_clock(), &loracle::posix_files(), workers.get(), device.get()};

  loracle::EngineConfig config;
  config.directory = directory;
  config.max_loras = 2;
  config.max_cpu_loras = 3;
  config.policy = "sieve/gdsf";
  auto engine = loracle::Engine::open(config, env);
  if (!engine) return complain(engine.error());

  const std::string_view batch[] = {"support-en", "billing-en"};
  auto lease = (*engine)->acquire(batch);
  if (!lease) return complain(lease.error());
  for (const loracle::LeasedAdapter& adapter : lease->adapters())
    std::printf("lora_int_id %u, rank %u: slot %u\n", adapter.id, adapter.rank, adapter.slot);
  const bool good = lease->adapters().size() == 2 && lease->adapters()[0].slot != lease->adapters()[1].slot &&
                    (*engine)->acquire("no-such-adapter").error().code == loracle::Errc::kNotFound;
  lease->let_go();  // the engine waits for leases when it closes
  std::puts(good ? "ok" : "FAILED");
  return good ? 0 : 1;
}

}  // namespace

int main() {
  const std::string directory = "consumer-adapters";
  const int status = serve(directory);
  std::filesystem::remove_all(directory);
  return status;
}
