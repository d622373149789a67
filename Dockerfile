# syntax=docker/dockerfile:1

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# The caches are mounts, so the program has to be copied out of them within the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked \
    && install -D target/release/schoolbell /out/schoolbell

FROM debian:bookworm-slim
# For `sslmode=verify-full` against databases with public certificates.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --no-create-home --shell /usr/sbin/nologin schoolbell
COPY --from=build /out/schoolbell /usr/local/bin/schoolbell
USER schoolbell
# Exec form: the program itself gets SIGTERM and finishes the batch in hand.
ENTRYPOINT ["schoolbell"]
CMD ["run"]
