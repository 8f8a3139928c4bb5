// C++ objects that end late: thread_local ones of a thousand threads, of detached threads and of the first thread, those of
// function scope, and static ones that are destroyed after main. Their destructors allocate, free what was allocated in
// another thread, and make further objects. Each is counted; exit status and count come from a second run of this program.
#include "ashlar/ashlar.h"
#include "tap.h"

#include <atomic>
#include <cstdlib>
#include <map>
#include <memory>
#include <pthread.h>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <vector>

static std::atomic<int> made, ended;
static std::atomic<char *> left_behind;

struct Late {
    std::vector<std::string> texts;
    std::map<int, std::unique_ptr<char[]>> blocks;

    explicit Late(int n)
    {
        made++;
        for (int i = 0; i < n; i++) {
            texts.push_back(std::string(static_cast<size_t>(10 + i * 20), 'x'));
            blocks[i] = std::make_unique<char[]>(static_cast<size_t>(1 + i * 777));
        }
    }

    ~Late()
    {
        std::vector<std::string> copy(texts);
        copy.resize(copy.size() * 3, "another text, too long to be held in place");
        delete[] left_behind.exchange(new char[300]);
        std::free(std::realloc(std::malloc(50), 100000));
        ended++;
    }
};

static thread_local Late early(5);
static thread_local std::unique_ptr<Late> replaced;

// A destructor of a key runs after those of C++ objects, and makes another one.
static void key_end(void *value)
{
    delete static_cast<Late *>(value);
    delete new Late(2);
}

static pthread_key_t key;

static void thread_main(int i)
{
    thread_local Late inner(i % 20);
    early.texts.push_back("touched");
    inner.texts.push_back("touched");
    replaced = std::make_unique<Late>(i % 7);
    pthread_setspecific(key, new Late(i % 5));
}

static uint64_t live_blocks()
{
    struct ash_stats s = {};
    s.struct_size = sizeof s;
    ash_stats_get(&s);
    return s.live_blocks;
}

static void test_threads()
{
    uint64_t before = 0;
    for (int round = 0; round < 100; round++) {
        std::thread threads[10];
        for (int i = 0; i < 10; i++)
            threads[i] = std::thread(thread_main, i + round);
        for (auto &t : threads)
            t.join();
        if (round == 50)
            before = live_blocks();
    }
    is_int(ended, made, "every object of a thread has ended");
    is_int(made, 1000 * 5, "all of them");
    is_int(static_cast<long long>(live_blocks() - before), 0, "nothing is lost");
    is_int(ash_verify(), 0, "everything verifies");
}

// ---- the end of a process ----

static std::unique_ptr<Late> global = std::make_unique<Late>(30);

static void count_last()
{
    std::free(std::malloc(77));
    if (write(STDOUT_FILENO, ended == made ? "+" : "-", 1) != 1)
        _exit(43);
}

static int leave(char how)
{
    std::atexit(count_last); // registered before the objects below are made: it runs after they ended
    static Late local(10);
    early.texts.push_back("touched");
    replaced = std::make_unique<Late>(3);
    global.reset();
    // glibc destroys the first thread's objects only if that thread is the last one to go: it waits for the others then
    for (int i = 0; i < 4; i++) {
        std::thread t(thread_main, i);
        how == 'p' ? t.join() : t.detach();
    }
    while (ended < 1 + 4 * 5) // the global one, and those of the threads
        std::this_thread::yield();
    if (how == 'p')
        pthread_exit(nullptr);
    if (how == 'e')
        std::exit(5);
    return 5;
}

static void test_leave(char how, int want, const char *name)
{
    int good = 0;
    enum { TIMES = 20 };
    for (int i = 0; i < TIMES; i++) {
        int out[2];
        if (pipe(out) != 0)
            abort();
        pid_t child = fork();
        if (child == 0) {
            char word[2] = {how, '\0'};
            dup2(out[1], STDOUT_FILENO);
            alarm(30);
            execl("/proc/self/exe", "test_objects", word, static_cast<char *>(nullptr));
            _exit(99);
        }
        close(out[1]);
        char word = 0;
        int status;
        bool told = read(out[0], &word, 1) == 1 && word == '+';
        close(out[0]);
        waitpid(child, &status, 0);
        good += told && WIFEXITED(status) && WEXITSTATUS(status) == want;
        if (!told || !WIFEXITED(status) || WEXITSTATUS(status) != want)
            tap_line("# status 0x%x, told '%c'", static_cast<unsigned>(status), word == 0 ? '0' : word);
    }
    is_int(good, TIMES, name);
}

int main(int argc, char **argv)
{
    pthread_key_create(&key, key_end);
    if (argc > 1)
        return leave(argv[1][0]);
    made = ended = 0; // the global one is not a thread's
    test_threads();
    test_leave('r', 5, "return from main with objects of every kind");
    test_leave('e', 5, "exit");
    test_leave('p', 0, "pthread_exit of the first thread");
    return tap_done();
}
