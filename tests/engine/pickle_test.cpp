#include "../../engine/src/loader/pickle.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "pickle_maker.hpp"

namespace loracle {
namespace {

using testing::global;
using testing::little_endian;
using testing::pickled_dict;
using testing::proto2;
using testing::RawTensor;
using testing::unicode;
using testing::whole;

std::vector<RawTensor> two_tensors() {
  Rng rng(21);
  return {testing::random_tensor(rng, "a", Dtype::kBf16, 2, 3),
          testing::random_tensor(rng, "b", Dtype::kF8E5M2, 5, 2)};
}

// Broken: a sound file of tensors cannot be read, or its tensors are described wrongly.
TEST(Unpickler, DescribesTensors) {
  const std::string text = pickled_dict(two_tensors(), /*legacy=*/false);
  Unpickler pickle(text);
  const auto root = pickle.load();
  ASSERT_TRUE(root) << root.error().message;
  EXPECT_EQ(pickle.at(), text.size());
  ASSERT_EQ(pickle.kind_of(*root), Unpickler::Kind::kDict);
  const auto items = pickle.elements_of(*root);
  ASSERT_EQ(items.size(), 4U);
  EXPECT_EQ(pickle.text_of(items[0]), "a");
  ASSERT_EQ(pickle.kind_of(items[1]), Unpickler::Kind::kTensor);
  const PickledTensor& a = pickle.tensor_of(items[1]);
  EXPECT_EQ(a.dtype, Dtype::kBf16);
  EXPECT_EQ(a.dimensions, 2U);
  EXPECT_EQ(a.shape[0], 2U);
  EXPECT_EQ(a.shape[1], 3U);
  EXPECT_EQ(a.elements, 6U);
  const PickledTensor& b = pickle.tensor_of(items[3]);
  EXPECT_EQ(b.dtype, Dtype::kF8E5M2);
  ASSERT_EQ(pickle.storages().size(), 2U);
  EXPECT_EQ(pickle.storages()[b.storage].key, "1");
  EXPECT_EQ(pickle.storages()[b.storage].bytes(), 10U);
}

/// Refused: with this code, and this in the message.
struct Refused {
  std::string what;
  std::string text;
  Errc code;
  std::string part;
};

void expect_refused(const Refused& hostile) {
  Unpickler pickle(hostile.text);
  const auto root = pickle.load();
  ASSERT_FALSE(root) << hostile.what;
  EXPECT_EQ(root.error().code, hostile.code) << hostile.what << ": " << root.error().message;
  EXPECT_NE(root.error().message.find(hostile.part), std::string::npos)
      << hostile.what << ": " << root.error().message;
}

// Broken: a downloaded adapter runs its author's code. Each of these runs something under Python's pickle.
TEST(Unpickler, ExecutesNothingAndNamesWhatItWasAskedTo) {
  const std::string command = unicode("touch /tmp/loracle-was-here");
  const std::vector<Refused> table = {
      {"os.system", proto2(global("os", "system") + "(" + command + "tR"), Errc::kInvalid,
       "it names os.system"},
      {"posix.system", proto2(global("posix", "system") + command + "\x85R"), Errc::kInvalid, "posix.system"},
      {"eval", proto2(global("builtins", "eval") + command + "\x85R"), Errc::kInvalid, "builtins.eval"},
      {"python 2's eval", proto2(global("__builtin__", "eval") + command + "\x85R"), Errc::kInvalid,
       "__builtin__.eval"},
      {"getattr", proto2(global("builtins", "getattr") + command + command + "\x86R"), Errc::kInvalid,
       "builtins.getattr"},
      {"subprocess, by name on the stack",
       "\x80\x04" + std::string("\x8C\x0Asubprocess\x8C\x05Popen\x93.", 20), Errc::kInvalid,
       "subprocess.Popen"},
      {"a dotted name",
       "\x80\x04" + std::string("\x8C\x0B") + "collections" + "\x8C\x14" + "abc.sys.modules.os.x" + "\x93.",
       Errc::kInvalid, "which a file of tensors has no use for"},
      {"torch.load within", proto2(global("torch.storage", "_load_from_bytes") + command + "\x85R"),
       Errc::kInvalid, "torch.storage._load_from_bytes"},
      {"a class with __setstate__", proto2(global("torch.nn", "Module") + ")\x81}b"), Errc::kInvalid,
       "torch.nn.Module"},
      {"instance opcode", proto2("(ios\nsystem\n"), Errc::kInvalid, "opcode 0x69 (i)"},
      {"object opcode", proto2("(" + command + "o"), Errc::kInvalid, "opcode 0x6f (o)"},
      {"new object", proto2(global("collections", "OrderedDict") + ")\x81"), Errc::kInvalid, "opcode 0x81"},
      {"new object with keywords", proto2(global("collections", "OrderedDict") + ")}\x92"), Errc::kInvalid,
       "opcode 0x92"},
      {"extension registry", proto2("\x82\x01"), Errc::kInvalid, "opcode 0x82"},
      {"persistent id as text", proto2("P0\n"), Errc::kInvalid, "opcode 0x50 (P)"},
      {"calling what a call gave", proto2(global("collections", "OrderedDict") + ")R)R"), Errc::kInvalid,
       "no known name"},
      {"calling a storage", proto2(global("torch", "FloatStorage") + ")R"), Errc::kInvalid,
       "torch.FloatStorage is called"},
      {"calling a dtype", proto2(global("torch", "float32") + ")R"), Errc::kInvalid,
       "torch.float32 is called"},
      {"OrderedDict with arguments", proto2(global("collections", "OrderedDict") + "]\x85R"), Errc::kCorrupt,
       "OrderedDict with arguments"},
      {"attributes of a class", proto2(global("collections", "OrderedDict") + "}b"), Errc::kInvalid,
       "attributes are set"},
      {"attributes of a tensor", proto2(testing::pickled_tensor(two_tensors()[0], "0", false) + "}b"),
       Errc::kInvalid, "attributes are set"},
      {"a name with a control character", proto2(global("os\x1B[2J", "x")), Errc::kInvalid, "os\\x1b[2J.x"},
      {"int64", proto2(global("torch", "LongStorage")), Errc::kUnsupported, "torch.LongStorage"},
  };
  for (const Refused& hostile : table) expect_refused(hostile);
}

// Broken: a few bytes make the engine take gigabytes, or read outside its arrays.
TEST(Unpickler, RefusesAbsurdSizesAndIndices) {
  const std::string max(8, '\xFF');
  const std::string huge = "\x8A\x08" + little_endian(std::uint64_t{1} << 62U);
  const std::string large = "\x8A\x08" + little_endian(std::uint64_t{1} << 40U);
  const auto tensor = [](const std::string& elements, const std::string& offset, const std::string& shape,
                         const std::string& stride) {
    return proto2(global("torch._utils", "_rebuild_tensor_v2") + "((" + unicode("storage") +
                  global("torch", "FloatStorage") + unicode("0") + unicode("cpu") + elements + "tQ" + offset +
                  shape + stride + "\x89}tR");
  };
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "]";
  const std::vector<Refused> table = {
      {"a text longer than the file", proto2("X" + std::string(4, '\xFF')), Errc::kCorrupt, "ends early"},
      {"a text of 2^64 - 1", proto2("\x8D" + max), Errc::kCorrupt, "ends early"},
      {"a number of 255 bytes", proto2("\x8A\xFF"), Errc::kCorrupt, "ends early"},
      {"memo 2^32 - 1", proto2("Nr" + std::string(4, '\xFF')), Errc::kCorrupt,
       "memo entry 4294967295 is absurd"},
      {"memo of nothing", "\x80\x02q\x01.", Errc::kCorrupt, "the stack is empty"},
      {"memo that was never put", proto2("h\x05"), Errc::kCorrupt, "memo entry 5 was never put"},
      {"memo in a gap", proto2("Nr" + little_endian(9, 4) + "h\x05"), Errc::kCorrupt,
       "memo entry 5 was never put"},
      {"pop of nothing", proto2("0"), Errc::kCorrupt, "the stack is empty"},
      {"pop beyond a mark", proto2("N(0"), Errc::kCorrupt, "the stack is empty"},
      {"tuple beyond a mark", proto2("N(\x85"), Errc::kCorrupt, "the stack is empty"},
      {"append beyond a mark", proto2("](a"), Errc::kCorrupt, "the stack is empty"},
      {"items without a mark", proto2("}u"), Errc::kCorrupt, "no mark"},
      {"items for a list", proto2("](NNu"), Errc::kCorrupt, "holds none"},
      {"an element for a number", proto2("J" + little_endian(1, 4) + "Na"), Errc::kCorrupt, "holds none"},
      {"a key without a value", proto2("}(Nu"), Errc::kCorrupt, "a key without a value"},
      {"reduce of nothing", proto2("R"), Errc::kCorrupt, "the stack is empty"},
      {"build of nothing", proto2("b"), Errc::kCorrupt, "the stack is empty"},
      {"persistent id of nothing", proto2("Q"), Errc::kCorrupt, "the stack is empty"},
      {"persistent id that is none", proto2("NQ"), Errc::kCorrupt, "persistent id"},
      {"two objects", proto2("NN"), Errc::kCorrupt, "one object"},
      {"no object", proto2(""), Errc::kCorrupt, "one object"},
      {"an open mark", proto2("N("), Errc::kCorrupt, "one object"},
      {"nothing", "", Errc::kCorrupt, "ends early"},
      {"protocol 1", "\x80\x01N.", Errc::kCorrupt, "protocol"},
      {"a name without end", "\x80\x02" + std::string("c") + std::string(5000, 'a'), Errc::kCorrupt,
       "a name without"},
      {"storage of 2^62", tensor(huge, whole(0), ")", ")"), Errc::kCorrupt, "persistent id"},
      {"negative storage", tensor(whole(-1), whole(0), ")", ")"), Errc::kCorrupt, "persistent id"},
      {"negative offset", tensor(whole(4), whole(-1), ")", ")"), Errc::kCorrupt, "a tensor without"},
      {"tensor beyond its storage", tensor(whole(4), whole(1), whole(4) + "\x85", whole(1) + "\x85"),
       Errc::kCorrupt, "out of its storage"},
      {"offset beyond its storage", tensor(whole(4), whole(5), whole(0) + "\x85", whole(1) + "\x85"),
       Errc::kCorrupt, "out of its storage"},
      {"shape of 2^80", tensor(whole(4), whole(0), large + large + "\x86", large + whole(1) + "\x86"),
       Errc::kCorrupt, "absurd size"},
      {"strides without shape", tensor(whole(4), whole(0), ")", whole(1) + "\x85"), Errc::kCorrupt,
       "do not fit together"},
      {"shape of texts", tensor(whole(4), whole(0), unicode("4") + "\x85", whole(1) + "\x85"), Errc::kCorrupt,
       "is no size"},
      {"broadcast", tensor(whole(4), whole(0), whole(4) + "\x85", whole(0) + "\x85"), Errc::kUnsupported,
       "not contiguous"},
      {"lists to the sky", proto2(deep), Errc::kCorrupt, "one object"},
  };
  for (const Refused& hostile : table) expect_refused(hostile);
}

// Broken: a small file with self-references is expanded without end (the pickle form of "billion laughs").
TEST(Unpickler, KeepsASharedValueOnce) {
  std::string body = "]q";
  body += '\0';
  for (int i = 1; i < 200; ++i) {  // each list holds the one before it ten times
    body += "](";
    for (int k = 0; k < 10; ++k) body += std::string("h") + static_cast<char>(i - 1);
    body += std::string("eq") + static_cast<char>(i);
  }
  std::string keep;
  for (int i = 0; i < 199; ++i) keep += "\x86";  // pairs, so that one object is left
  const std::string text = proto2(body + keep);
  Unpickler pickle(text);
  EXPECT_TRUE(pickle.load());
  const std::string self = proto2(std::string("]q\0h\0a", 6));  // a list within itself
  Unpickler again(self);
  EXPECT_TRUE(again.load());
}

// Broken: a pickle of a newer protocol, as torch.save(pickle_protocol=5) writes it, is refused.
TEST(Unpickler, UnderstandsFramesAndMemoize) {
  const std::string text =
      "\x80\x05\x95" + little_endian(30) + "}\x94(\x8C\x01" + "a\x94K\x07\x8C\x01" + "bh\x01u.";
  Unpickler pickle(text);
  const auto root = pickle.load();
  ASSERT_TRUE(root) << root.error().message;
  const auto items = pickle.elements_of(*root);
  ASSERT_EQ(items.size(), 4U);
  EXPECT_EQ(pickle.number_of(items[1]), 7);
  EXPECT_EQ(pickle.text_of(items[3]), "a");
}

// Broken: a pickle cut anywhere crashes, or passes for whole.
TEST(Unpickler, RefusesAPickleCutAnywhere) {
  const std::string text = pickled_dict(two_tensors(), /*legacy=*/true);
  for (std::size_t size = 0; size < text.size(); ++size) {
    const std::string cut = text.substr(0, size);
    Unpickler pickle(cut);
    EXPECT_FALSE(pickle.load()) << size;
    EXPECT_TRUE(pickle.ran_out()) << size;
  }
}

// Broken: a byte flipped on the way leads outside an array.
TEST(Unpickler, SurvivesEveryChangedByte) {
  const std::string text = pickled_dict(two_tensors(), /*legacy=*/false);
  for (std::size_t at = 0; at < text.size(); ++at) {
    for (int value = 0; value < 256; ++value) {
      std::string changed = text;
      changed[at] = static_cast<char>(value);
      Unpickler pickle(changed);
      (void)pickle.load();
    }
  }
}

}  // namespace
}  // namespace loracle
