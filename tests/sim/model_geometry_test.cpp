#include "loracle/sim/model_geometry.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>

namespace loracle {
namespace {

std::uint64_t bytes_of(const ModelGeometry& model, std::string_view targets, std::uint32_t rank) {
  const auto modules = target_modules(model, targets);
  EXPECT_TRUE(modules.has_value());
  return modules ? lora_bytes(*modules, rank, 2).value : 0;
}

TEST(ModelGeometry, SizesASlotOfLlama31WithEightBillionAsWorkedOutByHand) {
  // If this fails, every slot memory a plan prints is wrong. By hand: 32 layers x (q 8192 + k 5120 + v 5120 +
  // o 8192 + gate, up and down 18432 each) x rank x 2 bytes.
  const auto model = known_model("llama-3.1-8b");
  ASSERT_TRUE(model.has_value());
  EXPECT_EQ(bytes_of(*model, "auto", 8), 41'943'040U);
  EXPECT_EQ(bytes_of(*model, "auto", 16), 83'886'080U);
  EXPECT_EQ(bytes_of(*model, "auto", 32), 167'772'160U);
  EXPECT_EQ(bytes_of(*model, "all-linear", 64), 335'544'320U);
  EXPECT_EQ(bytes_of(*model, "q_proj,v_proj", 16), 32U * (8192 + 5120) * 16 * 2);
}

TEST(ModelGeometry, TheTablesModelsHaveTheSizesInTheirNames) {
  // A wrong digit in the table would show as a parameter count that is off. Counts in 1e9, from the model
  // cards; embeddings that are tied are counted once there, so they are added here as each model has them.
  struct Card {
    double billions;
    bool tied;
  };
  const std::map<std::string, Card> cards = {
      {"llama-3.1-8b", {8.03, false}},  {"llama-3.1-70b", {70.6, false}}, {"llama-3.1-405b", {405.9, false}},
      {"llama-3.2-1b", {1.24, true}},   {"llama-3.2-3b", {3.21, true}},   {"llama-3.3-70b", {70.6, false}},
      {"llama-3-8b", {8.03, false}},    {"llama-3-70b", {70.6, false}},   {"llama-2-7b", {6.74, false}},
      {"llama-2-13b", {13.02, false}},  {"llama-2-70b", {68.98, false}},  {"mistral-7b", {7.24, false}},
      {"mistral-nemo", {12.25, false}}, {"mixtral-8x7b", {46.7, false}},  {"mixtral-8x22b", {140.6, false}},
      {"qwen2.5-0.5b", {0.494, true}},  {"qwen2.5-1.5b", {1.54, true}},   {"qwen2.5-3b", {3.09, true}},
      {"qwen2.5-7b", {7.62, false}},    {"qwen2.5-14b", {14.77, false}},  {"qwen2.5-32b", {32.76, false}},
      {"qwen2.5-72b", {72.71, false}},  {"qwen3-0.6b", {0.596, true}},    {"qwen3-1.7b", {1.72, true}},
      {"qwen3-4b", {4.02, true}},       {"qwen3-8b", {8.19, false}},      {"qwen3-14b", {14.77, false}},
      {"qwen3-32b", {32.76, false}},    {"gemma-2-2b", {2.61, true}},     {"gemma-2-9b", {9.24, true}},
      {"gemma-2-27b", {27.23, true}},   {"phi-3-mini", {3.82, false}},    {"phi-4", {14.66, false}},
      {"opt-125m", {0.125, true}},      {"opt-1.3b", {1.316, true}},      {"opt-6.7b", {6.66, true}},
      {"tiny", {106'496e-9, false}},
  };
  for (const std::string& name : known_model_names()) {
    const auto card = cards.find(name);
    ASSERT_NE(card, cards.end()) << name << " needs a parameter count here";
    const auto model = known_model(name);
    ASSERT_TRUE(model.has_value()) << name;
    double weights = 0;
    for (const LinearModule& module : model->modules) {
      if (card->second.tied && module.name == "lm_head") continue;
      weights += static_cast<double>(module.d_in) * static_cast<double>(module.d_out) *
                 static_cast<double>(module.count);
    }
    EXPECT_NEAR(weights / 1e9 / card->second.billions, 1.0, 0.02) << name;
  }
}

TEST(ModelGeometry, FindsAModelByItsHuggingFaceName) {
  // People paste what they give to `vllm serve`.
  for (const auto& [pasted, name] :
       std::map<std::string, std::string>{{"meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b"},
                                          {"meta-llama/Meta-Llama-3.1-70B", "llama-3.1-70b"},
                                          {"meta-llama/Llama-2-7b-chat-hf", "llama-2-7b"},
                                          {"mistralai/Mistral-7B-Instruct-v0.3", "mistral-7b"},
                                          {"mistralai/Mistral-Nemo-Instruct-2407", "mistral-nemo"},
                                          {"Qwen/Qwen2.5-7B-Instruct", "qwen2.5-7b"},
                                          {"google/gemma-2-9b-it", "gemma-2-9b"},
                                          {"microsoft/Phi-3-mini-4k-instruct", "phi-3-mini"}}) {
    const auto model = known_model(pasted);
    ASSERT_TRUE(model.has_value()) << pasted;
    EXPECT_EQ(model->name, name);
  }
}

TEST(ModelGeometry, AnUnknownModelIsToldTheNearestAndTheOtherWay) {
  // A bare "unknown model" would leave the user without a next step.
  const auto model = known_model("llama3.1-8b");
  ASSERT_FALSE(model.has_value());
  EXPECT_EQ(model.error().code, Errc::kNotFound);
  EXPECT_NE(model.error().message.find("'llama-3.1-8b'"), std::string::npos) << model.error().message;
  EXPECT_NE(model.error().message.find("config.json"), std::string::npos) << model.error().message;
}

TEST(ModelGeometry, AConfigJsonGivesWhatTheTableGives) {
  // The table and the parser must not disagree about one model.
  const auto parsed = parse_model_config(
      R"({"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
          "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": null, "vocab_size": 128256})",
      "llama");
  ASSERT_TRUE(parsed.has_value()) << parsed.error().message;
  EXPECT_EQ(bytes_of(*parsed, "auto", 16), 83'886'080U);
  EXPECT_EQ(parsed->head_dim, 128U);
}

TEST(ModelGeometry, UnderstandsTheFamiliesThatDiffer) {
  // Fused projections have one A for several outputs; OPT has no gate; a multimodal model nests its text
  // part.
  const auto phi = known_model("phi-3-mini");
  ASSERT_TRUE(phi.has_value());
  EXPECT_EQ(bytes_of(*phi, "auto", 1),
            32U * 2 * ((3072 + 9216) + (3072 + 3072) + (3072 + 16384) + (8192 + 3072)));
  const auto opt = parse_model_config(
      R"({"model_type": "opt", "hidden_size": 768, "ffn_dim": 3072, "num_hidden_layers": 12,
          "num_attention_heads": 12})",
      "opt");
  ASSERT_TRUE(opt.has_value()) << opt.error().message;
  EXPECT_EQ(bytes_of(*opt, "auto", 1), 12U * 2 * (4 * 1536 + 2 * 3840));
  const auto nested = parse_model_config(
      R"({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", "hidden_size": 2560,
          "intermediate_size": 10240, "num_hidden_layers": 34, "num_attention_heads": 8,
          "num_key_value_heads": 4,
          "head_dim": 256}})",
      "gemma3");
  ASSERT_TRUE(nested.has_value()) << nested.error().message;
  EXPECT_EQ(nested->layers, 34U);
}

TEST(ModelGeometry, ExpertsAreCountedOnlyWhenAskedFor) {
  // A slot with the experts' LoRA is 30 times larger; counting it unasked would make every plan infeasible.
  const auto model = known_model("mixtral-8x7b");
  ASSERT_TRUE(model.has_value());
  EXPECT_EQ(bytes_of(*model, "auto", 16), bytes_of(*model, "attention", 16));
  EXPECT_EQ(bytes_of(*model, "all-linear", 1) - bytes_of(*model, "attention", 1),
            32U * 8 * 2 * 3 * (4096 + 14336));
}

TEST(ModelGeometry, RefusesWhatItCannotSizeInWords) {
  // A guess here would be a wrong memory figure without a warning.
  const auto code = [](std::string_view json) {
    const auto model = parse_model_config(json, "x.json");
    return model ? Errc{} : model.error().code;
  };
  EXPECT_EQ(code("{"), Errc::kCorrupt);
  EXPECT_EQ(code("[]"), Errc::kCorrupt);
  EXPECT_EQ(code(R"({"hidden_size": 4096})"), Errc::kCorrupt);
  EXPECT_EQ(
      code(
          R"({"hidden_size": -1, "intermediate_size": 2, "num_hidden_layers": 1, "num_attention_heads": 1})"),
      Errc::kCorrupt);
  EXPECT_EQ(
      code(R"({"hidden_size": 4, "intermediate_size": 2, "num_hidden_layers": 1, "num_attention_heads": 8})"),
      Errc::kCorrupt);
  EXPECT_EQ(code(R"({"model_type": "deepseek_v3", "kv_lora_rank": 512, "hidden_size": 7168})"),
            Errc::kUnsupported);
  EXPECT_EQ(code(R"({"model_type": "gpt2", "n_embd": 768})"), Errc::kUnsupported);

  const auto model = known_model("llama-3.1-8b");
  ASSERT_TRUE(model.has_value());
  const auto modules = target_modules(*model, "q_proj,wat");
  ASSERT_FALSE(modules.has_value());
  EXPECT_NE(modules.error().message.find("down_proj"), std::string::npos) << "names what there is";
  EXPECT_FALSE(dtype_bytes("fp7").has_value());
}

TEST(ModelGeometry, ReadsAConfigJsonFileOrItsFolder) {
  // --model takes a checkout of a model as it lies on disk.
  const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) / "loracle_model_geometry";
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "config.json")
      << R"({"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2,
                                               "num_attention_heads": 2})";
  const auto by_folder = load_model_geometry(folder.string());
  const auto by_file = load_model_geometry((folder / "config.json").string());
  ASSERT_TRUE(by_folder.has_value()) << by_folder.error().message;
  ASSERT_TRUE(by_file.has_value()) << by_file.error().message;
  EXPECT_EQ(by_folder->layers, 2U);
  const auto missing = load_model_geometry((folder / "absent.json").string());
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, Errc::kIo);
  std::filesystem::remove_all(folder);
}

TEST(ModelGeometry, PicksTheRankThatVllmAccepts) {
  // vLLM refuses to start with any other --max-lora-rank.
  EXPECT_EQ(vllm_lora_rank_for(1), 1U);
  EXPECT_EQ(vllm_lora_rank_for(2), 8U);
  EXPECT_EQ(vllm_lora_rank_for(16), 16U);
  EXPECT_EQ(vllm_lora_rank_for(17), 32U);
  EXPECT_EQ(vllm_lora_rank_for(512), 512U);
  EXPECT_EQ(vllm_lora_rank_for(513), 0U);
}

}  // namespace
}  // namespace loracle
