# syntax=docker/dockerfile:1

# Tags move, digests do not: `docker buildx imagetools inspect NAME:TAG` prints the present one. Renew both now and then
# for what Debian has fixed.
FROM rust:1.95-slim-bookworm@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082 AS build
WORKDIR /src
COPY . .
# The caches are mounts, so the program has to be copied out of them within the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked \
    && install -D target/release/schoolbell /out/schoolbell

FROM debian:bookworm-slim@sha256:7b140f374b289a7c2befc338f42ebe6441b7ea838a042bbd5acbfca6ec875818
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
