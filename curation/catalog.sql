-- The views of the catalog: its documented interface, beside its tables.

-- One post through all stages in order: SELECT step, outcome, detail FROM journey WHERE post_id = …
-- A condition on post_id reaches every table only if no branch of the union needs a large join: that is
-- why `decisions` holds the persona, and why the other branches read the table that has the detail.
CREATE VIEW journey AS
SELECT
    post_id, 1 AS position, 'listing' AS step, 'listed' AS outcome,
    concat_ws(', ', 'rating ' || rating, image_width || ' × ' || image_height, file_ext,
              nullif(source, '')) AS detail
FROM posts
UNION ALL
SELECT
    d.post_id, s.position, d.stage, coalesce(d.reason, 'kept'),
    CASE WHEN d.measured IS NOT NULL AND d.threshold IS NOT NULL
         THEN printf('%g against %g', d.measured, d.threshold)
         WHEN d.measured IS NOT NULL THEN printf('%g', d.measured)
         WHEN d.stage IN ('decide', 'persona') THEN d.post_persona
    END
FROM decisions AS d JOIN stages AS s USING (stage)
WHERE d.stage <> 'duplicates' AND NOT (d.kept AND d.stage IN ('download', 'split'))
UNION ALL
SELECT post_id, 3, 'download', 'kept', variant || ', ' || file_bytes || ' bytes in ' || segment
FROM images
UNION ALL
SELECT post_id, 4, 'measure', coalesce(error, 'decoded'),
       coalesce(detail, printf('%d × %d %s, border white %.2f, saturation %.2f',
                               width, height, file_format, border_white, saturation))
FROM measures
UNION ALL
SELECT g.post_id, 6, 'duplicates', coalesce(d.reason, 'kept'),
       concat_ws(', ', 'group of ' || g.group_id, 'joined by ' || g.link, 'distance ' || g.distance)
FROM groups AS g
LEFT JOIN (FROM decisions WHERE stage = 'duplicates' AND NOT kept) AS d USING (post_id)
UNION ALL
SELECT post_id, 8, 'split', 'kept', split || CASE WHEN white_background THEN ', white background'
                                                  ELSE '' END
FROM splits
UNION ALL
SELECT post_id, 9, 'shards', 'packed', shard || ' at byte ' || byte_offset FROM samples;

-- Every reason for which a post was refused, with the two numbers compared.
CREATE VIEW rejections AS
SELECT d.post_id, s.position, d.stage, d.reason, d.measured, d.threshold, d.post_persona AS persona
FROM decisions AS d JOIN stages AS s USING (stage)
WHERE NOT d.kept;

-- The samples on a white background.
CREATE VIEW white_background AS
SELECT s.post_id, s.label, s.split, m.border_white, k.white_background_tag, s.shard, s.byte_offset
FROM samples AS s JOIN measures AS m USING (post_id) LEFT JOIN kept AS k USING (post_id)
WHERE s.white_background;

-- The samples on a ground that at most a tenth of their label has. The ground is white by the measured
-- border, or the background that the tags name, or not tagged.
CREATE VIEW unusual_ground AS
WITH backgrounds AS (
    SELECT name::tag AS tag FROM (SELECT unnest(enum_range(NULL::tag))::VARCHAR AS name)
    WHERE name LIKE '%\_background' ESCAPE '\'
      AND name NOT IN ('simple_background', 'white_background')
),
tagged AS (
    SELECT t.post_id, string_agg(t.tag::VARCHAR, ' ' ORDER BY t.tag::VARCHAR) AS ground
    FROM post_tags AS t JOIN backgrounds USING (tag) JOIN samples AS s USING (post_id)
    GROUP BY t.post_id
),
grounds AS (
    SELECT s.post_id, s.label, s.split,
           CASE WHEN s.white_background THEN 'white' ELSE coalesce(t.ground, 'not tagged') END AS ground
    FROM samples AS s LEFT JOIN tagged AS t USING (post_id)
)
SELECT post_id, label, split, ground,
       count(*) OVER (PARTITION BY label, ground) / count(*) OVER (PARTITION BY label) AS share
FROM grounds
QUALIFY share <= 0.1
ORDER BY share, label, post_id;

-- Every sample, the position of its bytes, and what the board lists of its post.
CREATE VIEW dataset AS
SELECT
    s.post_id, s.label, s.leaf, s.split, t.fold, s.white_background, t.group_id,
    s.shard, s.byte_offset, s.sample_bytes, s.image_offset, s.image_bytes,
    p.rating, p.score, p.created_at_utc, p.image_width, p.image_height, m.sha256, m.border_white,
    list_concat(p.tags_general, p.tags_meta) AS tags, p.tags_copyright AS copyrights,
    array_to_string(p.tags_artist, ' ') AS artist, p.source AS source_url, p.licence, p.uploader_id,
    p.original_url, p.original_path
FROM samples AS s
JOIN splits AS t USING (post_id)
JOIN posts AS p USING (post_id)
JOIN measures AS m USING (post_id);
