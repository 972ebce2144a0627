// count.cpp: counts lines, words and bytes of standard input; see count.c.
#include <algorithm>
#include <cctype>
#include <iostream>
#include <iterator>
#include <string>

int main(int argc, char **argv) {
    const std::string text{std::istreambuf_iterator<char>(std::cin), {}};
    std::size_t words = 0;
    bool in_word = false;
    for (unsigned char c : text) {
        words += !in_word && !std::isspace(c);
        in_word = !std::isspace(c);
    }
    std::cout << std::count(text.begin(), text.end(), '\n') << " lines, " << words << " words, " << text.size()
              << " bytes\n";
    for (int i = 1; i < argc; i++)
        std::cout << "argument: " << argv[i] << '\n';
    return argc == 1 ? 3 : 0;
}
