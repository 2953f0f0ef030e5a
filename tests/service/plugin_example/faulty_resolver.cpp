// A resolver plugin with everything that can be wrong with one. The adapter's name says what it does.

#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <stdexcept>

#include "loracle/service/loracle_resolver.h"

namespace {

std::mutex mutex;
std::condition_variable released_changed;
bool released = false;
unsigned hanging = 0;

void hang() {
  std::unique_lock lock(mutex);
  ++hanging;
  released_changed.wait(lock, [] { return released; });
  --hanging;
}

int overflow_stack(volatile char* above) {
  volatile char page[4096];
  page[0] = above[0];
  return overflow_stack(page) + page[0];
}

int resolve(void*, const loracle_resolver_request* request, const loracle_resolver_reply* reply) {
  const char* const name = request->name;
  const auto is = [name](const char* what) { return std::strcmp(name, what) == 0; };
  if (is("throws")) throw std::runtime_error("the plugin has thrown");
  if (is("throws-int")) throw 7;
  if (is("hangs")) hang();
  if (is("hangs-and-finds")) {
    hang();
    reply->answer(reply->to, "/nowhere");
    return LORACLE_RESOLVER_FOUND;
  }
  if (is("aborts")) std::abort();
  if (is("faults")) {
    volatile int* volatile nowhere = nullptr;
    *nowhere = 1;
  }
  if (is("overflows")) {
    volatile char begin = 1;
    return overflow_stack(&begin);
  }
  if (is("nonsense")) return 42;
  if (is("silent")) return LORACLE_RESOLVER_FOUND;
  if (is("refused")) {
    reply->answer(reply->to, "you have not paid");
    return LORACLE_RESOLVER_REFUSED;
  }
  if (is("failed")) {
    reply->answer(reply->to, "the database is away");
    return LORACLE_RESOLVER_FAILED;
  }
  return LORACLE_RESOLVER_NOT_FOUND;
}

const loracle_resolver kFaulty = {
    FAULTY_ABI_VERSION, sizeof(loracle_resolver), "faulty", nullptr, resolve, nullptr};

}  // namespace

extern "C" {
const loracle_resolver* loracle_resolver_plugin(void) { return &kFaulty; }

__attribute__((visibility("default"))) unsigned faulty_calls_hanging();
unsigned faulty_calls_hanging() {
  const std::lock_guard lock(mutex);
  return hanging;
}

// Lets the calls that hang go on; `false` lets others hang again.
__attribute__((visibility("default"))) void faulty_release(bool let_go);
void faulty_release(bool let_go) {
  {
    const std::lock_guard lock(mutex);
    released = let_go;
  }
  released_changed.notify_all();
}
}
