-- The tables of the synthetic data folder of browse_data.py: one view for each Parquet file.

-- Two of five posts are samples, one is a duplicate, two are refused by their tags. Three of ten are
-- tagged with a white background, and most of these have one. One of ten labels is a form of another.
-- Random numbers are hashes of the row, so that every run makes the same tables.
CREATE TABLE base AS
SELECT
    i, 1000 + 10 * i AS post_id, i % 5 < 2 AS sampled, i % 5 < 3 AS downloaded,
    (hash(i * 3 + 1) % getvariable('labels'))::INTEGER AS leaf, (hash(i * 3 + 2) % 20)::INTEGER AS part,
    i % getvariable('drawings') AS drawing, hash(i * 3 + 4) % 10 < 3 AS white_tag,
    white_tag AND hash(i * 3 + 5) % 10 < 8 AS on_white
FROM range(getvariable('posts')) AS t(i);
CREATE TABLE named AS
SELECT
    b.*, printf('persona_%03d', leaf) AS label,
    printf('persona_%03d', CASE WHEN leaf % 10 = 1 THEN leaf - 1 ELSE leaf END) AS base,
    CASE WHEN part < 12 THEN 'train' WHEN part < 15 THEN 'val' ELSE 'test' END AS split,
    d.* EXCLUDE (drawing)
FROM base AS b JOIN drawings AS d USING (drawing);

CREATE VIEW "listing/posts" AS
SELECT post_id, TIMESTAMPTZ '2024-01-01' AS created_at_utc,
TIMESTAMPTZ '2024-01-01' AS updated_at_utc, md5(post_id::VARCHAR) AS md5,
md5(post_id::VARCHAR) AS pixel_hash, 'g' AS rating, 900::INTEGER AS image_width,
900::INTEGER AS image_height, 'jpg' AS file_ext, 100000::BIGINT AS file_bytes,
NULL::DOUBLE AS duration_seconds,
CASE WHEN i % 10 = 3 THEN post_id - 10 END AS parent_id, i % 10 = 2 AS has_children,
false AS is_pending, false AS is_flagged, false AS is_deleted, false AS is_banned,
(i % 50)::INTEGER AS score, (i % 999)::BIGINT AS uploader_id,
'https://pictures.example/' || post_id AS source, list_distinct([
    printf('tag_%04d', (getvariable('tags') * pow((hash(i * 31 + k) % 100000) / 100000.0, 3))::INTEGER)
    FOR k IN range(getvariable('tags_of_post'))]) || if(white_tag, ['white_background'], []) AS tags_general,
[label] AS tags_character, ['work_' || leaf % 9] AS tags_copyright,
['artist_' || i % 5000] AS tags_artist, ['highres'] AS tags_meta,
[{'type': 'original', 'url': '/original/' || post_id || '.jpg', 'width': 900,
   'height': 900, 'file_ext': 'jpg'}] AS variants,
NULL::VARCHAR AS given_label, NULL::VARCHAR AS given_split, NULL::VARCHAR AS given_group,
NULL::VARCHAR AS licence
FROM named ORDER BY post_id;

CREATE VIEW "listing/tags" AS
SELECT printf('tag_%04d', n) AS name, 0::TINYINT AS category,
(getvariable('tags') - n)::BIGINT AS post_count FROM range(getvariable('tags')) AS t(n);

CREATE VIEW "listing/implications" AS
SELECT '' AS antecedent, '' AS consequent WHERE false;

CREATE VIEW "listing/aliases" AS
SELECT '' AS antecedent, '' AS consequent WHERE false;

CREATE VIEW "listing/decisions" AS
SELECT post_id, '' AS stage, true AS kept, '' AS reason, 0::DOUBLE AS measured, 0::DOUBLE AS threshold FROM named WHERE false;

CREATE VIEW "decide/decisions" AS
SELECT post_id, 'decide' AS stage, downloaded AS kept,
CASE WHEN NOT downloaded THEN ['comic', 'not_solo', 'monochrome_tag'][1 + (i // 5) % 3] END
AS reason, NULL::DOUBLE AS measured, NULL::DOUBLE AS threshold FROM named;

CREATE VIEW "decide/kept" AS
SELECT post_id, label AS persona, base, 'self' AS base_source, 'work' AS copyright,
white_tag AS white_background_tag FROM named WHERE downloaded ORDER BY post_id;

CREATE VIEW "decide/personae" AS
SELECT label AS persona, base, 'work' AS copyright, count(*) AS listed,
count(*) FILTER (downloaded) AS kept, true AS qualifies FROM named GROUP BY label, base;

CREATE VIEW "download/images" AS
SELECT post_id, '00000.tar' AS segment, "offset", bytes AS file_bytes, sha256, 'x' AS md5,
'original' AS variant, 'png' AS file_ext, 128::INTEGER AS width, 128::INTEGER AS height
FROM named WHERE downloaded ORDER BY post_id;

CREATE VIEW "download/decisions" AS
SELECT post_id, 'download' AS stage, true AS kept, NULL::VARCHAR AS reason,
NULL::DOUBLE AS measured, NULL::DOUBLE AS threshold FROM named WHERE downloaded;

CREATE VIEW "measure/measures" AS
SELECT post_id, NULL::VARCHAR AS error, NULL::VARCHAR AS detail, 'PNG' AS file_format,
'RGB' AS mode, 128::INTEGER AS width, 128::INTEGER AS height, md5(post_id::VARCHAR) AS sha256, NULL::BLOB AS phash,
100::INTEGER AS phash_quality, if(on_white, 0.95, (i % 90) / 100)::DOUBLE AS border_white, 0.5::DOUBLE AS saturation, 900.0::DOUBLE AS sharpness,
0.2::DOUBLE AS contrast, 'images-00000.tar' AS image_tar, "offset", bytes AS image_bytes,
CASE WHEN getvariable('shared_images') OR i < getvariable('drawings') THEN sha256
ELSE md5(post_id::VARCHAR) END AS image_sha256
FROM named WHERE downloaded ORDER BY post_id;

CREATE VIEW "filters/decisions" AS
SELECT post_id, 'filters' AS stage, true AS kept, NULL::VARCHAR AS reason,
NULL::DOUBLE AS measured, NULL::DOUBLE AS threshold FROM named WHERE downloaded;

CREATE VIEW "duplicates/decisions" AS
SELECT post_id, 'duplicates' AS stage, sampled AS kept,
CASE WHEN NOT sampled THEN 'near_duplicate' END AS reason,
CASE WHEN NOT sampled THEN 9 END::DOUBLE AS measured,
CASE WHEN NOT sampled THEN 31 END::DOUBLE AS threshold FROM named WHERE downloaded;

CREATE VIEW "duplicates/groups" AS
SELECT post_id, CASE WHEN sampled THEN post_id ELSE post_id - 10 END AS group_id,
sampled AS representative, CASE WHEN NOT sampled THEN 'near' END AS link,
CASE WHEN NOT sampled THEN 9 END::INTEGER AS distance FROM named WHERE downloaded
ORDER BY post_id;

CREATE VIEW "duplicates/links" AS
SELECT post_id - 10 AS post_a, post_id AS post_b, 'near' AS link, 9::INTEGER AS distance,
NULL::INTEGER AS inliers, false AS mirrored FROM named WHERE downloaded AND NOT sampled;

CREATE VIEW "persona/classes" AS
SELECT label, leaf, base, 'work' AS copyright, count(*) AS available,
count(*) AS samples FROM named WHERE sampled GROUP BY label, leaf, base;

CREATE VIEW "persona/decisions" AS
SELECT post_id, 'persona' AS stage, true AS kept, NULL::VARCHAR AS reason,
NULL::DOUBLE AS measured, NULL::DOUBLE AS threshold FROM named WHERE sampled;

CREATE VIEW "split/split" AS
SELECT post_id, label, leaf, post_id AS group_id, split, on_white AS white_background
FROM named WHERE sampled ORDER BY post_id;

CREATE VIEW "split/decisions" AS
SELECT post_id, 'split' AS stage, true AS kept, NULL::VARCHAR AS reason,
NULL::DOUBLE AS measured, NULL::DOUBLE AS threshold FROM named WHERE sampled;

CREATE VIEW "shards/samples" AS
SELECT post_id, split, label, leaf, on_white AS white_background,
split || '-000000.tar' AS shard, "offset" - 512 AS "offset", bytes + 512 AS sample_bytes,
"offset" AS image_offset, bytes AS image_bytes FROM named WHERE sampled ORDER BY post_id;
