# To try pg_janitor, not for production:
#
#	docker build -t pg_janitor .
#	docker run --rm -d --name janitor -e POSTGRES_PASSWORD=secret pg_janitor
#	docker exec -it janitor psql -U postgres -c "SELECT * FROM job_check_installation()"
#
# --build-arg PG_MAJOR=15 (to 18) chooses the server.

ARG PG_MAJOR=17

FROM postgres:${PG_MAJOR}-bookworm AS build
ARG PG_MAJOR
RUN apt-get update \
	&& apt-get install -y --no-install-recommends \
		gcc libc6-dev make "postgresql-server-dev-${PG_MAJOR}"
COPY Makefile META.json pg_janitor.control /pg_janitor/
COPY src /pg_janitor/src
COPY sql /pg_janitor/sql
RUN make -C /pg_janitor -j2 install DESTDIR=/installed \
	PG_CONFIG="/usr/lib/postgresql/${PG_MAJOR}/bin/pg_config"

FROM postgres:${PG_MAJOR}-bookworm
COPY --from=build /installed /
RUN echo 'CREATE EXTENSION pg_janitor;' >/docker-entrypoint-initdb.d/pg_janitor.sql
CMD ["postgres", "-c", "shared_preload_libraries=pg_janitor", "-c", "max_worker_processes=16"]
