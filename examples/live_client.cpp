// Client of `fastcell serve RUN --socket PATH` for programs that acquire images. The bytes: docs/guides/live.md.
//   g++ -std=c++17 -O2 -pthread -o live_client live_client.cpp && ./live_client PATH WIDTH HEIGHT < cells.raw
// Reads 8-bit cells of one size from stdin and prints id, class, its probability, flags and microseconds of each.
#include <sys/socket.h>
#include <sys/un.h>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

struct Frame { uint32_t length; uint16_t width, height; uint8_t bits, zeros[3]; float um_per_px; uint64_t id, time; };
struct Answer { uint32_t length; uint16_t status, flags; uint64_t id, time; int32_t label; float unlike; uint32_t us, left; };
static_assert(sizeof(Frame) == 32 && sizeof(Answer) == 40, "the structures are the bytes of the protocol");
static void fail(const std::string& why) { std::fprintf(stderr, "%s\n", why.c_str()); std::_Exit(1); }
static void put(int fd, const void* data, size_t size) {
  auto p = static_cast<const char*>(data);
  for (ssize_t n; size; p += n, size -= n)
    if ((n = ::send(fd, p, size, MSG_NOSIGNAL)) <= 0) fail("the server is gone");
}
static bool get(int fd, void* to, size_t size) { return !size || ::recv(fd, to, size, MSG_WAITALL) == ssize_t(size); }

int main(int argc, char** argv) {
  if (argc != 4 || std::atoi(argv[2]) < 1 || std::atoi(argv[3]) < 1) fail("usage: live_client PATH WIDTH HEIGHT < cells.raw");
  uint16_t width = std::atoi(argv[2]), height = std::atoi(argv[3]), num = 0;
  int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, argv[1], sizeof(address.sun_path) - 1);
  if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address))) fail("no server at this path");
  put(fd, "FCELLS1\n\0\0", 10);  // magic, and a token of 0 bytes
  char magic[8]; uint32_t size;
  if (!get(fd, magic, 8) || std::memcmp(magic, "FCELLS1\n", 8) || !get(fd, &size, 4)) fail("no fastcell server");
  std::string welcome(size, 0);
  if (!get(fd, welcome.data(), size)) fail("the greeting is cut");
  std::memcpy(&num, welcome.data(), 2);
  std::vector<std::string> classes;
  for (size_t at = 8; classes.size() < num; at += 2 + classes.back().size())
    classes.push_back(welcome.substr(at + 2, uint8_t(welcome[at]) + 256 * uint8_t(welcome[at + 1])));
  std::thread sender([&] {
    std::vector<char> cell(size_t(width) * height);
    for (uint64_t id = 0; std::fread(cell.data(), 1, cell.size(), stdin) == cell.size(); id++) {
      Frame frame{uint32_t(28 + cell.size()), width, height, 8, {}, 0.0f, id, 0};
      put(fd, &frame, sizeof frame), put(fd, cell.data(), cell.size());
    }
    ::shutdown(fd, SHUT_WR);  // the server sends the last answers, and closes
  });
  Answer answer;
  for (std::vector<float> p(num); get(fd, &answer, sizeof answer);) {
    std::string text(answer.status > 2 ? answer.length - 36 : 0, 0);
    if (answer.status > 2) get(fd, text.data(), text.size()), fail("the server has closed the connection. " + text);
    if (!get(fd, p.data(), 4 * num)) fail("an answer is cut");
    bool known = answer.label >= 0;  // else dropped, or no cell that can be classified
    std::printf("%llu %s %.6f %u %u\n", (unsigned long long)answer.id, known ? classes[answer.label].c_str() : "-",
                known ? p[answer.label] : 0.0f, answer.flags, answer.us);
  }
  sender.join();
}
