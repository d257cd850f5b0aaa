//! Builds the shim.

fn main() {
    println!("cargo::rerun-if-changed=src/shim.cpp");
    cc::Build::new().cpp(true).std("c++17").opt_level(3).file("src/shim.cpp").compile("shim");
    // `shm_open` and the process-shared mutex, where they are not in libc itself.
    println!("cargo::rustc-link-lib=rt");
    println!("cargo::rustc-link-lib=pthread");
}
