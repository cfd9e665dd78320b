# One image a role, of the static binary alone: `docker build --target server --tag superhero-server .`
#
# The binaries are those of `just build-static`. Where there is no Rust toolchain, they can be built inside first (with BuildKit):
#
#     docker build --target binaries --build-arg COMMIT=$(git rev-parse --short=12 HEAD) --output target/static/x86_64-unknown-linux-musl .
#
# They run as nobody in particular, on a root that may be read-only, without any capability.
ARG TARGET=x86_64-unknown-linux-musl

FROM scratch AS base
USER 65532:65532
STOPSIGNAL SIGTERM

FROM base AS server
ARG TARGET
COPY target/static/${TARGET}/superhero-server /superhero-server
ENV WEBSOCKET_HOST=0.0.0.0
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s CMD ["/superhero-server", "healthcheck"]
ENTRYPOINT ["/superhero-server"]

FROM base AS worker
ARG TARGET
COPY target/static/${TARGET}/superhero-worker /superhero-worker
ENV HEALTH_LISTEN=0.0.0.0:8082 OUTPUT_DIR=/data
EXPOSE 8082
VOLUME /data
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s CMD ["/superhero-worker", "healthcheck"]
ENTRYPOINT ["/superhero-worker"]

FROM base AS player
ARG TARGET
COPY target/static/${TARGET}/superhero-player /superhero-player
ENTRYPOINT ["/superhero-player"]

FROM base AS build-db
ARG TARGET
COPY target/static/${TARGET}/superhero-build-db /superhero-build-db
ENTRYPOINT ["/superhero-build-db"]

# All of it: up, trial, verify, broker, wait, and each role as a command: server, worker, player, build-db.
FROM base AS superhero
ARG TARGET
COPY target/static/${TARGET}/superhero /superhero
ENTRYPOINT ["/superhero"]

# From here on a registry is needed, and nothing above needs what is here.
FROM rust:1.95-slim AS build
ARG TARGET
ARG COMMIT
RUN rustup target add "$TARGET"
WORKDIR /superhero
COPY . .
RUN SUPERHERO_COMMIT="$COMMIT" cargo build --locked --profile dist --bins --target "$TARGET" && \
    mkdir /binaries && find "target/$TARGET/dist" -maxdepth 1 -name 'superhero*' -type f -executable -exec cp {} /binaries ';'

FROM scratch AS binaries
COPY --from=build /binaries/ /
