// The C++ model of vLLM's cache against an independent one in Python, over random operations with pins.

#include <gtest/gtest.h>
#include <stdio.h>  // popen is POSIX

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "loracle/core/rng.hpp"
#include "loracle/policy/vllm_model.hpp"
#include "support/shared_data.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

constexpr std::uint32_t kRows = 9;

/// Reads operations, one a line; answers each with a line of the same form as `state_line` below.
constexpr const char* kScript = R"py(
import importlib.util, sys
spec = importlib.util.spec_from_file_location("model", sys.argv[1])
model = importlib.util.module_from_spec(spec)
spec.loader.exec_module(model)
def fault(error):
    if not isinstance(error, RuntimeError):
        return "absent"
    return "many" if "more LoRAs" in str(error) else "pinned"
m = None
for line in open(sys.argv[2]):
    what, *numbers = line.split()
    n = [int(x) for x in numbers]
    answer = "ok"
    if what == "new":
        m = model.Manager(n[0], n[1]); exact = True
    else:
        try:
            if what == "step":
                m.step(n)
                if any(k not in m.gpu for k in n): answer = "missing"
            elif what == "add": m.worker_add(n[0], n[1] != 0)
            elif what == "pin": m.pin(n[0])
            elif what == "register": exact = False; answer = "yes" if m.register(n[0]) else "no"
            elif what == "activate": answer = "yes" if m.activate(n[0]) else "no"
            elif what == "deactivate": answer = "yes" if m.deactivate(n[0]) else "no"
            elif what == "remove": answer = "yes" if m.remove(n[0]) else "no"
            elif what == "oldest": exact = False; m.cpu.remove_oldest()
        except (RuntimeError, ValueError, KeyError) as error: answer = fault(error)
    counts = [m.loads, m.h2d, m.gpu_evictions] + ([m.cpu_evictions] if exact else [])
    print(answer, "slots", *["-" if k is None else k for k in m.slots], "host", *sorted(m.cpu.od),
          "device", *sorted(m.gpu.od), "counts", *counts)
)py";

const char* word_for(VllmFault fault) {
  switch (fault) {
    case VllmFault::kNone:
      return "ok";
    case VllmFault::kTooManyAdapters:
      return "many";
    case VllmFault::kAllPinned:
      return "pinned";
    case VllmFault::kNotRegistered:
      return "absent";
    case VllmFault::kMissingSlot:
      return "missing";
  }
  return "?";
}

/// `exact`: the Python model counts host evictions only where the worker makes them.
std::string state_line(const std::string& answer, const VllmModel& model, bool exact) {
  std::ostringstream line;
  line << answer << " slots";
  for (const Row row : model.slots()) {
    if (row == kNoRow)
      line << " -";
    else
      line << ' ' << index_of(row);
  }
  line << " host";
  for (std::uint32_t i = 0; i < kRows; ++i)
    if (model.on_host(Row{i})) line << ' ' << i;
  line << " device";
  for (std::uint32_t i = 0; i < kRows; ++i)
    if (model.on_device(Row{i})) line << ' ' << i;
  const HierarchyCounts& counts = model.counts();
  line << " counts " << counts.disk_loads << ' ' << counts.host_to_device_loads << ' '
       << counts.gpu_evictions;
  if (exact) line << ' ' << counts.host_evictions;
  return line.str();
}

/// Operations of one run as text, and what the C++ model says after each.
struct Transcript {
  std::string operations;
  std::vector<std::string> lines;
  std::vector<std::string> answers;
};

void run_model(std::uint64_t seed, bool workers_only, Transcript& transcript) {
  Rng rng(seed);
  const std::uint32_t max_loras = 1 + rng.below(4);
  const std::uint32_t max_cpu_loras = max_loras + rng.below(4);
  DecisionLog log;
  VllmModel model(kRows, max_loras, max_cpu_loras, log);
  bool exact = true;
  const auto record = [&](const std::string& operation, const std::string& answer) {
    transcript.operations += operation + "\n";
    transcript.lines.push_back(operation);
    transcript.answers.push_back(state_line(answer, model, exact));
  };
  record("new " + std::to_string(max_loras) + " " + std::to_string(max_cpu_loras), "ok");
  for (int i = 0; i < 60; ++i) {
    const Row row{rng.below(kRows)};
    const std::string id = std::to_string(index_of(row));
    VllmFault fault = VllmFault::kNone;
    const auto yes_or_no = [&](bool answer) -> std::string {
      return fault != VllmFault::kNone ? word_for(fault) : answer ? "yes" : "no";
    };
    const std::uint32_t what = rng.below(workers_only ? 12 : 20);
    if (what < 8) {
      std::vector<Row> batch;
      std::string text = "step";
      const std::uint32_t size = 1 + rng.below(max_loras + (rng.below(8) == 0 ? 1 : 0));
      while (batch.size() < size) {
        const Row member{rng.below(kRows)};
        if (std::find(batch.begin(), batch.end(), member) != batch.end()) continue;
        batch.push_back(member);
        text += ' ';
        text += std::to_string(index_of(member));
      }
      const char* answer = word_for(model.step(batch));
      record(text, answer);
    } else if (what == 8) {
      const char* answer = word_for(model.pin(row));
      record("pin " + id, answer);
    } else if (what == 9) {
      const bool answer = model.remove(row);
      record("remove " + id, yes_or_no(answer));
    } else if (what < 12) {
      const bool in_place = rng.below(3) == 0;
      const char* answer = word_for(model.worker_add(row, in_place));
      record("add " + id + (in_place ? " 1" : " 0"), answer);
    } else if (what < 14) {
      exact = false;
      const bool answer = model.register_adapter(row, fault);
      record("register " + id, yes_or_no(answer));
    } else if (what < 17) {
      const bool answer = model.activate(row, fault);
      record("activate " + id, yes_or_no(answer));
    } else if (what < 19) {
      const bool answer = model.deactivate(row);
      record("deactivate " + id, yes_or_no(answer));
    } else {
      exact = false;
      const char* answer = word_for(model.remove_oldest_on_host());
      record("oldest", answer);
    }
  }
}

std::vector<std::string> lines_of(const std::string& command) {
  std::vector<std::string> lines;
  FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) return lines;
  std::array<char, 4096> buffer{};
  while (std::fgets(buffer.data(), static_cast<int>(buffer.size()), pipe) != nullptr) {
    std::string line(buffer.data());
    while (!line.empty() && line.back() == '\n') line.pop_back();
    lines.push_back(line);
  }
  if (::pclose(pipe) != 0) lines.clear();
  return lines;
}

// Two people's readings of vLLM's sources that disagree: at least one of them predicts a server nobody runs.
TEST(VllmModel, AgreesWithTheIndependentModelInPython) {
  LORACLE_SHARED_FILE(reference, "reference/vllm_lora_model.py");
  if (std::system("python3 -c pass >/dev/null 2>&1") != 0)
    GTEST_SKIP() << "no python3: nothing to compare with";
  Transcript transcript;
  const int runs = std::getenv("LORACLE_SOAK") != nullptr ? 20'000 : 150;
  for (int seed = 0; seed < runs; ++seed)
    run_model(static_cast<std::uint64_t>(seed), seed % 2 == 0, transcript);
  const testing::TempDir dir;
  const std::string script = dir.write("run.py", kScript);
  const std::string operations = dir.write("operations.txt", transcript.operations);
  const std::vector<std::string> expected =
      lines_of("python3 '" + script + "' '" + reference.string() + "' '" + operations + "'");
  ASSERT_EQ(expected.size(), transcript.answers.size()) << "the Python side failed";
  std::string recent;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (transcript.lines[i].compare(0, 3, "new") == 0) recent.clear();
    recent += transcript.lines[i] + "  ->  " + transcript.answers[i] + "\n";
    ASSERT_EQ(transcript.answers[i], expected[i]) << recent;
  }
}

}  // namespace
}  // namespace loracle
