// Classify cells in PGM files with a file of `fastcell export RUN cells.onnx`, by the C++ interface of OpenVINO, which
// reads ONNX files. The graph holds the preprocessing: it takes raw cells of any size.
//
//     pip install openvino
//     OV=$(python -c "import openvino, pathlib; print(pathlib.Path(openvino.__file__).parent)")
//     c++ -std=c++17 -O2 classify_onnx.cpp -I$OV/include -o classify_onnx $OV/libs/libopenvino.so.* -Wl,-rpath,$OV/libs
//     ./classify_onnx cells.onnx one.pgm two.pgm
//
// Prints a line for each file: its name, the number of its class, and the probability of each class.

#include <openvino/openvino.hpp>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

struct Cell {
    std::size_t height = 0, width = 0;
    std::vector<std::uint8_t> pixels;  // row by row
};

// Read a binary PGM file of 8 bits.
Cell read_pgm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string magic;
    std::size_t most = 0;
    Cell cell;
    file >> magic >> cell.width >> cell.height >> most;
    file.get();  // the single white space before the pixels
    if (!file || magic != "P5" || most != 255 || cell.width * cell.height == 0 || cell.width * cell.height > 1u << 30)
        throw std::runtime_error(path + " must be a binary PGM file of 8 bits");
    cell.pixels.resize(cell.height * cell.width);
    if (!file.read(reinterpret_cast<char*>(cell.pixels.data()), static_cast<std::streamsize>(cell.pixels.size())))
        throw std::runtime_error(path + " ends early");
    return cell;
}

// Classify cells of one size in one call; returns their probabilities, (cells, classes) row by row.
std::vector<float> classify(ov::InferRequest& request, const std::vector<const Cell*>& cells) {
    const std::size_t height = cells[0]->height, width = cells[0]->width, size = height * width;
    ov::Tensor input(ov::element::u8, {cells.size(), 1, height, width});
    for (std::size_t i = 0; i < cells.size(); ++i)
        std::copy_n(cells[i]->pixels.data(), size, input.data<std::uint8_t>() + i * size);
    request.set_tensor("cell", input);
    request.infer();
    const ov::Tensor output = request.get_tensor("probabilities");
    return {output.data<const float>(), output.data<const float>() + output.get_size()};
}

int main(int argc, char** argv) try {
    if (argc < 3) throw std::runtime_error("usage: classify_onnx MODEL.onnx CELL.pgm...");
    ov::Core core;
    // 32 bits, as in the check of fastcell export: a processor with bf16 would compute in these by itself.
    ov::CompiledModel model = core.compile_model(argv[1], "CPU", ov::hint::inference_precision(ov::element::f32));
    if (model.input("cell").get_element_type() != ov::element::u8)
        throw std::runtime_error("this example is for 8-bit cells; the file takes 16 bits");
    ov::InferRequest request = model.create_infer_request();
    std::vector<Cell> cells;
    for (int i = 2; i < argc; ++i) cells.push_back(read_pgm(argv[i]));
    std::cout << std::fixed << std::setprecision(6);
    for (std::size_t begin = 0, end; begin < cells.size(); begin = end) {
        std::vector<const Cell*> batch;  // the cells that follow and have the size of this one
        for (end = begin; end < cells.size() && cells[end].height == cells[begin].height
             && cells[end].width == cells[begin].width; ++end)
            batch.push_back(&cells[end]);
        const std::vector<float> found = classify(request, batch);
        const std::size_t classes = found.size() / batch.size();
        for (std::size_t i = 0; i < batch.size(); ++i) {
            const float* row = found.data() + i * classes;
            std::cout << argv[2 + begin + i] << ' ' << std::max_element(row, row + classes) - row;
            for (std::size_t k = 0; k < classes; ++k) std::cout << ' ' << row[k];
            std::cout << '\n';
        }
    }
} catch (const std::exception& error) {
    std::cerr << "classify_onnx: " << error.what() << '\n';
    return 1;
}
