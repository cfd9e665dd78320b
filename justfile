# Kafka nodes that `just services-up` starts: 1 or 3
brokers := "1"
static_target := "x86_64-unknown-linux-musl"

# List the recipes
default:
    @just --list

# Run every test; those of the whole line start Kafka and Redis themselves
test *arguments:
    cargo test --workspace {{ arguments }}

# Measure against the budgets, in release mode
bench *arguments:
    cargo bench -p superhero --bench bench {{ arguments }}

# Build static binaries (`rustup target add x86_64-unknown-linux-musl` once before)
build-static:
    cargo build --release --bins --target {{ static_target }}

# Format the code
fmt:
    cargo fmt --all

# Check what CI checks besides the tests: format, lints, dependencies, walls between the rooms
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    .ci/no-c
    .ci/walls

# Start Kafka and Redis: `just services-up`, `just services-up brokers=3`
services-up nodes=brokers:
    tests/services/up --brokers {{ trim_start_match(nodes, "brokers=") }}

# Stop them
services-down:
    tests/services/down
