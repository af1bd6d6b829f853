#include "proto/rpc/files.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/mutex.h"

namespace berth::rpc {
namespace {

namespace fs = std::filesystem;

class FileWatcherTest : public testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { watcher_.reset(); }

  void Watch(const fs::path& path) {
    auto watcher = FileWatcher::Start({path}, [this, path] {
      const auto text = ReadFile(path);
      base::MutexLock lock(mutex_);
      seen_ = text.ok() ? *text : "";
      changed_.NotifyAll();
    });
    ASSERT_TRUE(watcher.ok()) << watcher.status();
    watcher_ = *std::move(watcher);
  }
  bool Sees(const std::string& text) {
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    base::MutexLock lock(mutex_);
    while (seen_ != text && absl::Now() < deadline) changed_.WaitFor(mutex_, absl::Seconds(1));
    return seen_ == text;
  }
  static void Write(const fs::path& path, const std::string& text) { std::ofstream(path) << text; }

  const fs::path folder_ = fs::path(testing::TempDir()) / "watched";
  std::unique_ptr<FileWatcher> watcher_;
  base::Mutex mutex_;
  base::CondVar changed_;
  std::string seen_;
};

TEST_F(FileWatcherTest, SeesWritesRenamesAndFilesThatComeToBe) {
  const fs::path file = folder_ / "file";
  Watch(file);
  Write(file, "one");
  EXPECT_TRUE(Sees("one"));
  Write(file, "two");
  EXPECT_TRUE(Sees("two"));
  Write(folder_ / "next", "three");
  fs::rename(folder_ / "next", file);
  EXPECT_TRUE(Sees("three"));
}

TEST_F(FileWatcherTest, SeesTheLinksOfItsPathChange) {
  // As Kubernetes mounts a secret: file -> ..data/file, ..data -> a folder.
  for (const char* version : {"1", "2", "3"}) {
    fs::create_directories(folder_ / version);
    Write(folder_ / version / "file", version);
  }
  fs::create_symlink("1", folder_ / "..data");
  fs::create_symlink("..data/file", folder_ / "file");
  Watch(folder_ / "file");
  for (const char* version : {"2", "3"}) {
    fs::create_symlink(version, folder_ / "..tmp");
    fs::rename(folder_ / "..tmp", folder_ / "..data");
    EXPECT_TRUE(Sees(version));
  }
  Write(folder_ / "3" / "file", "in place");
  EXPECT_TRUE(Sees("in place"));
}

TEST_F(FileWatcherTest, SeesAFolderOfItsPathReplaced) {
  for (const char* version : {"old", "new"}) {
    fs::create_directories(folder_ / version);
    Write(folder_ / version / "file", version);
  }
  fs::rename(folder_ / "old", folder_ / "now");
  Watch(folder_ / "now" / "file");
  fs::rename(folder_ / "now", folder_ / "old");
  fs::rename(folder_ / "new", folder_ / "now");
  EXPECT_TRUE(Sees("new"));
}

TEST(FileWatcherErrorTest, AFolderThatIsNotThereIsNamed) {
  const auto watcher = FileWatcher::Start({"/no/such/file"}, [] {});
  EXPECT_EQ(watcher.status().message(), "cannot watch /no: No such file or directory");
}

}  // namespace
}  // namespace berth::rpc
