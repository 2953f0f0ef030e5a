// `loracle catalog` as a person or a script uses it: flags in, exit code, stdout and stderr out.

#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "support/run_command.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

using testing::Outcome;
using testing::TempDir;

class CatalogCli : public ::testing::Test {
 protected:
  CatalogCli() : adapters_((dir_ / "adapters").string()) {
    const Outcome made = run("make-adapters " + adapters_ + " --model tiny --count 3 --ranks 4,8");
    EXPECT_EQ(made.exit_code, 0) << made.err;
    std::filesystem::create_directory(dir_ / "adapters" / "broken");
    dir_.write("adapters/broken/adapter_config.json", "{");
  }

  Outcome run(const std::string& arguments) const {
    return testing::run_command(LORACLE_APP_PATH " " + arguments, (dir_ / "stderr").string());
  }
  nlohmann::json run_json(const std::string& arguments, int exit_code = 0) const {
    const Outcome outcome = run(arguments + " --format json");
    EXPECT_EQ(outcome.exit_code, exit_code) << arguments << "\n" << outcome.err;
    EXPECT_EQ(outcome.err, "");
    return nlohmann::json::parse(outcome.out, nullptr, false);
  }
  void expect_error(const std::string& arguments, int exit_code, const std::string& words) const {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.exit_code, exit_code) << arguments << "\n" << outcome.err;
    EXPECT_NE(outcome.err.find(words), std::string::npos) << arguments << "\n" << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }
  [[nodiscard]] std::string at() const { return " --dir " + adapters_; }

  TempDir dir_;
  std::string adapters_;
};

// Nobody would know that a catalog which came along with a copy, or a move, speaks of other files.
TEST_F(CatalogCli, SaysWhenItSpeaksOfAnotherDirectory) {
  ASSERT_EQ(run("catalog scan " + adapters_).exit_code, 0);
  const std::string copy = (dir_ / "copy").string();
  std::filesystem::copy(adapters_, copy, std::filesystem::copy_options::recursive);
  const std::string root = std::filesystem::canonical(adapters_).string();
  for (const char* command : {"verify", "refresh", "ls", "show adapter-0000"}) {
    const Outcome outcome = run(std::string("catalog ") + command + " --dir " + copy);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_NE(outcome.err.find("is a copy: it speaks of the adapters in " + root), std::string::npos)
        << command << ": " << outcome.err;
  }
  EXPECT_EQ(run("catalog verify" + at()).err, "") << "the original is no copy";
  const std::string moved = (dir_ / "moved").string();
  std::filesystem::rename(adapters_, moved);
  const Outcome refresh = run("catalog refresh " + moved);
  EXPECT_EQ(refresh.exit_code, 3);
  EXPECT_NE(refresh.err.find("run `loracle catalog scan " + moved + "`"), std::string::npos) << refresh.err;
  const std::string database = moved + "/.loracle-catalog.sqlite";
  const Outcome by_file = run("catalog refresh --db " + database);
  EXPECT_EQ(by_file.exit_code, 3);
  EXPECT_NE(by_file.err.find("run `loracle catalog scan NEWDIR --db " + database + "`"), std::string::npos)
      << by_file.err;
  EXPECT_EQ(run("catalog scan " + moved).exit_code, 0);
  EXPECT_EQ(run("catalog verify --dir " + moved).err, "");
}

// Scripts that read the documented JSON would break, or one broken adapter would stop them.
TEST_F(CatalogCli, ScanListsWhatItAddedAndWhatItRejected) {
  const nlohmann::json scan = run_json("catalog scan " + adapters_);
  ASSERT_EQ(scan.at("added").size(), 3U);
  EXPECT_EQ(scan.at("added").at(0), (nlohmann::json{{"name", "adapter-0000"}, {"id", 1}, {"version", 1}}));
  ASSERT_EQ(scan.at("rejected").size(), 1U);
  EXPECT_EQ(scan.at("rejected").at(0).at("name"), "broken");
  EXPECT_EQ(scan.at("rejected").at(0).at("code"), "corrupt");
  EXPECT_TRUE(std::filesystem::exists(dir_ / "adapters" / ".loracle-catalog.sqlite"));

  const nlohmann::json again = run_json("catalog scan " + adapters_ + "/../adapters/");
  EXPECT_EQ(again.at("unchanged"), 3) << "another spelling of the same directory";
  EXPECT_EQ(again.at("added").size(), 0U);

  const nlohmann::json list = run_json("catalog ls" + at());
  EXPECT_EQ(list.at("kind"), "storage");
  ASSERT_EQ(list.at("adapters").size(), 3U);
  EXPECT_EQ(list.at("adapters").at(1).at("name"), "adapter-0001");
  EXPECT_EQ(list.at("adapters").at(1).at("rank"), 8);
  EXPECT_EQ(list.at("adapters").at(1).at("dtype"), "bfloat16");
  EXPECT_EQ(list.at("adapters").at(0).at("shape"), list.at("adapters").at(2).at("shape"));
  const Outcome text = run("catalog ls" + at());
  EXPECT_NE(text.out.find("3 adapters, 1 rejected"), std::string::npos) << text.out;
  EXPECT_NE(run("catalog ls --rejected" + at()).out.find("broken"), std::string::npos);
}

// Changes on the disk would need a new scan of everything, or go unnoticed.
TEST_F(CatalogCli, RefreshTellsWhatChanged) {
  ASSERT_EQ(run("catalog scan " + adapters_ + " --max-lora-rank 4").exit_code, 0);
  EXPECT_EQ(run_json("catalog ls" + at()).at("adapters").size(), 2U);
  ASSERT_EQ(run("make-adapters " + adapters_ + " --model tiny --count 5 --ranks 4,8").exit_code, 0);
  std::filesystem::remove_all(dir_ / "adapters" / "adapter-0002");
  const nlohmann::json refreshed = run_json("catalog refresh" + at());
  ASSERT_EQ(refreshed.size(), 1U);
  EXPECT_EQ(refreshed.at(0).at("added").size(), 1U) << "the rules of the scan still hold";
  EXPECT_EQ(refreshed.at(0).at("vanished").at(0).at("name"), "adapter-0002");
  EXPECT_EQ(refreshed.at(0).at("rejected").size(), 3U);
}

// A volume that is mounted elsewhere would lose every adapter, each refused as a clash with itself.
TEST_F(CatalogCli, ADirectoryThatWasMovedOrCopiedKeepsItsIds) {
  ASSERT_EQ(run("catalog scan " + adapters_).exit_code, 0);
  const std::string moved = (dir_ / "moved").string();
  std::filesystem::rename(adapters_, moved);
  const nlohmann::json scan = run_json("catalog scan " + moved);
  EXPECT_EQ(scan.at("added").size(), 0U);
  EXPECT_EQ(scan.at("unchanged"), 3);
  ASSERT_EQ(scan.at("rejected").size(), 1U) << "the broken one, as before";
  EXPECT_EQ(run_json("catalog refresh --dir " + moved).size(), 1U) << "the old root is forgotten";

  const std::string copied = (dir_ / "copied").string();
  std::filesystem::copy(moved, copied, std::filesystem::copy_options::recursive);
  const nlohmann::json clash = run_json("catalog scan " + copied);
  ASSERT_EQ(clash.at("rejected").size(), 4U) << "the other is still there";
  EXPECT_NE(clash.at("rejected").at(0).at("reason").get<std::string>().find(moved), std::string::npos)
      << clash.dump(1);
  std::filesystem::remove_all(moved);
  const nlohmann::json taken = run_json("catalog scan --dir " + copied);
  EXPECT_EQ(taken.at("rejected").size(), 1U);
  EXPECT_EQ(taken.at("added").size(), 0U);
  EXPECT_EQ(run_json("catalog ls --dir " + copied).at("adapters").at(2).at("id"), 3);
  EXPECT_EQ(run_json("catalog ls " + copied), run_json("catalog ls --dir " + copied));
}

// A person could not see what the server knows of an adapter.
TEST_F(CatalogCli, ShowTellsEverythingOfOneAdapter) {
  ASSERT_EQ(run("catalog scan " + adapters_).exit_code, 0);
  const nlohmann::json shown = run_json("catalog show adapter-0001" + at());
  EXPECT_EQ(shown.at("id"), 2);
  EXPECT_EQ(shown.at("state"), "available");
  EXPECT_EQ(shown.at("rank"), 8);
  EXPECT_EQ(shown.at("alpha"), 16.0);
  EXPECT_TRUE(shown.at("weights_sha256").is_null());
  EXPECT_EQ(shown.at("uses"), 0);
  const Outcome text = run("catalog show adapter-0001" + at());
  EXPECT_NE(text.out.find("adapter_model.safetensors"), std::string::npos) << text.out;
}

// Damaged weights would be served, or a script not be told by the exit code.
TEST_F(CatalogCli, VerifyRecordsDigestsAndFindsDamage) {
  ASSERT_EQ(run("catalog scan " + adapters_).exit_code, 0);
  const nlohmann::json first = run_json("catalog verify" + at());
  ASSERT_EQ(first.at("adapters").size(), 3U);
  EXPECT_EQ(first.at("adapters").at(0).at("verdict"), "recorded");
  const nlohmann::json second = run_json("catalog verify adapter-0000" + at());
  EXPECT_EQ(second.at("adapters").at(0).at("verdict"), "intact");
  EXPECT_EQ(second.at("adapters").at(0).at("weights_sha256"),
            first.at("adapters").at(0).at("weights_sha256"));
  EXPECT_EQ(run_json("catalog show adapter-0000" + at()).at("weights_sha256"),
            first.at("adapters").at(0).at("weights_sha256"));

  const std::filesystem::path weights = dir_ / "adapters" / "adapter-0001" / "adapter_model.safetensors";
  std::fstream file(weights, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(-1, std::ios::end);
  file.put('!');
  file.close();
  std::filesystem::remove_all(dir_ / "adapters" / "adapter-0002");
  const nlohmann::json third = run_json("catalog verify" + at(), 4);
  EXPECT_EQ(third.at("adapters").at(1).at("verdict"), "changed") << "its time shows that it was written";
  EXPECT_EQ(third.at("adapters").at(2).at("verdict"), "missing");
  EXPECT_EQ(run("catalog verify adapter-0002" + at()).exit_code, 3);
}

// A removed adapter would come back by itself, or be lost with its id.
TEST_F(CatalogCli, RmHoldsUntilRestore) {
  ASSERT_EQ(run("catalog scan " + adapters_).exit_code, 0);
  ASSERT_EQ(run("catalog rm adapter-0000 adapter-0001" + at()).exit_code, 0);
  ASSERT_EQ(run("catalog refresh" + at()).exit_code, 0);
  EXPECT_EQ(run_json("catalog ls" + at()).at("adapters").size(), 1U);
  EXPECT_EQ(run_json("catalog ls --all" + at()).at("adapters").size(), 3U);
  ASSERT_EQ(run("catalog restore adapter-0000" + at()).exit_code, 0);
  EXPECT_EQ(run_json("catalog ls" + at()).at("adapters").at(0).at("id"), 1);
}

// Mistakes would be met with silence or a misleading exit code; or `ls` would make catalogs.
TEST_F(CatalogCli, MistakesAreNamedWithTheirExitCode) {
  expect_error("catalog", 2, "subcommand");
  expect_error("catalog lss", 2, "ls");
  expect_error("catalog ls --format csv" + at(), 2, "csv");
  expect_error("catalog ls" + at(), 3, "no such catalog");
  EXPECT_FALSE(std::filesystem::exists(dir_ / "adapters" / ".loracle-catalog.sqlite"));
  expect_error("catalog scan", 2, "catalog scan DIR");
  expect_error("catalog scan " + adapters_ + "/none", 3, "none");
  ASSERT_EQ(run("catalog scan " + adapters_).exit_code, 0);
  expect_error("catalog show adapter-000" + at(), 2, "adapter-0000");
  expect_error("catalog rm nobody" + at(), 2, "nobody");
  expect_error("catalog verify nobody" + at(), 2, "nobody");
  const std::string text = dir_.write("text.sqlite", std::string(5000, 'x'));
  expect_error("catalog ls --db " + text, 4, "text.sqlite");
  EXPECT_EQ(run("catalog --help").exit_code, 0);
  for (const char* name : {"scan", "refresh", "ls", "show", "verify", "rm", "restore"}) {
    const Outcome help = run(std::string("catalog ") + name + " --help");
    EXPECT_EQ(help.exit_code, 0);
    EXPECT_NE(help.out.find("Example:"), std::string::npos) << name;
  }
}

}  // namespace
}  // namespace loracle
