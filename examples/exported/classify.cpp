// Classify pictures with an exported network, by OpenVINO, which reads ONNX too. Pictures are PPM or PGM files (P6, P5):
//
//     convert photo.jpg -auto-orient -background white -flatten -depth 8 photo.ppm
//     ./classify net.onnx classes.txt photo.ppm …
//
// The Python package brings headers and libraries:
//
//     ov=$(python -c 'import openvino, pathlib; print(pathlib.Path(openvino.__file__).parent)')
//     g++ -std=c++17 classify.cpp -I $ov/include -L $ov/libs -l:$(basename $ov/libs/libopenvino.so.*) \
//         -Wl,-rpath,$ov/libs -o classify
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include <openvino/openvino.hpp>

int main(int count, char** words) {
    if (count < 4) {
        std::fprintf(stderr, "classify NET CLASSES PICTURE…\n");
        return 2;
    }
    std::vector<std::string> classes;
    std::ifstream names(words[2]);
    for (std::string line; std::getline(names, line);) classes.push_back(line);

    ov::Core core;
    // In fp32: bf16, which OpenVINO takes by itself where the processor has it, holds no whole number above 256.
    ov::CompiledModel network =
        core.compile_model(words[1], "CPU", ov::hint::inference_precision(ov::element::f32));
    ov::InferRequest request = network.create_infer_request();
    for (int at = 3; at < count; ++at) {
        std::ifstream file(words[at], std::ios::binary);
        std::string kind;
        size_t width = 0, height = 0, most = 0;
        file >> kind >> width >> height >> most;
        file.get();
        if (!file || (kind != "P6" && kind != "P5") || most != 255) {
            std::fprintf(stderr, "%s: no PPM or PGM file of 8 bits\n", words[at]);
            return 1;
        }
        ov::Tensor image(ov::element::u8, {1, height, width, kind == "P6" ? size_t(3) : size_t(1)});
        file.read(reinterpret_cast<char*>(image.data<uint8_t>()), image.get_byte_size());
        request.set_input_tensor(image);
        request.infer();
        ov::Tensor found = request.get_output_tensor();
        const float* values = found.data<float>();
        size_t best = std::max_element(values, values + found.get_size()) - values;
        std::printf("%s %s %.6f\n", words[at], classes.at(best).c_str(), values[best]);
    }
}
