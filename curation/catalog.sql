-- The views of the catalog: its documented interface. Tables are loaded by catalog.py.

-- One post through all stages in order: SELECT step, outcome, detail FROM journey WHERE post_id = …
CREATE VIEW journey AS
WITH decided AS (
    SELECT
        post_id, stage, coalesce(reason, 'kept') AS outcome,
        CASE WHEN measured IS NOT NULL AND threshold IS NOT NULL
             THEN printf('%g against %g', measured, threshold)
             WHEN measured IS NOT NULL THEN printf('%g', measured)
        END AS numbers
    FROM decisions
)
SELECT
    post_id, 1 AS position, 'listing' AS step, 'listed' AS outcome,
    concat_ws(', ', 'rating ' || rating, image_width || ' × ' || image_height, file_ext,
              nullif(source, '')) AS detail
FROM posts
UNION ALL
SELECT post_id, 1, stage, outcome, numbers FROM decided WHERE stage = 'listing'
UNION ALL
SELECT t.post_id, 2, t.stage, t.outcome, coalesce(t.numbers, k.persona)
FROM decided AS t LEFT JOIN kept AS k USING (post_id) WHERE t.stage = 'decide'
UNION ALL
SELECT t.post_id, 3, t.stage, t.outcome,
       coalesce(t.numbers, i.variant || ', ' || i.file_bytes || ' bytes in ' || i.segment)
FROM decided AS t LEFT JOIN images AS i USING (post_id) WHERE t.stage = 'download'
UNION ALL
SELECT post_id, 4, 'measure', coalesce(error, 'decoded'),
       coalesce(detail, printf('%d × %d %s, border white %.2f, saturation %.2f',
                               width, height, file_format, border_white, saturation))
FROM measures
UNION ALL
SELECT post_id, 5, stage, outcome, numbers FROM decided WHERE stage = 'filters'
UNION ALL
SELECT t.post_id, 6, t.stage, t.outcome,
       concat_ws(', ', 'group of ' || g.group_id, 'joined by ' || g.link, 'distance ' || g.distance)
FROM decided AS t LEFT JOIN groups AS g USING (post_id) WHERE t.stage = 'duplicates'
UNION ALL
SELECT t.post_id, 7, t.stage, t.outcome, coalesce(t.numbers, k.persona)
FROM decided AS t LEFT JOIN kept AS k USING (post_id) WHERE t.stage = 'persona'
UNION ALL
SELECT t.post_id, 8, t.stage, t.outcome,
       coalesce(t.numbers, s.split || CASE WHEN s.white_background THEN ', white background'
                                           ELSE '' END)
FROM decided AS t LEFT JOIN splits AS s USING (post_id) WHERE t.stage = 'split'
UNION ALL
SELECT post_id, 9, 'shards', 'packed', shard || ' at byte ' || byte_offset FROM samples;

-- Posts by stage and outcome, from the board to the shards.
CREATE VIEW funnel AS
SELECT position, stage, outcome, posts FROM (
    SELECT 1 AS position, 'listing' AS stage, 'kept' AS outcome, count(*) AS posts FROM posts
    UNION ALL
    SELECT s.position, d.stage, coalesce(d.reason, 'kept'), count(DISTINCT d.post_id)
    FROM decisions AS d JOIN stages AS s USING (stage) GROUP BY ALL
    UNION ALL
    SELECT 9, 'shards', 'kept', count(*) FROM samples
)
ORDER BY position, outcome <> 'kept', posts DESC, outcome;

-- Every reason for which a post was refused, with the two numbers compared.
CREATE VIEW rejections AS
SELECT d.post_id, s.position, d.stage, d.reason, d.measured, d.threshold, k.persona
FROM decisions AS d JOIN stages AS s USING (stage) LEFT JOIN kept AS k USING (post_id)
WHERE NOT d.kept;

-- One row per label: posts listed and kept, samples, samples of each split and on white.
CREATE VIEW label_counts AS
SELECT
    l.leaf, l.label, l.base, l.copyright, p.listed, p.kept, l.available,
    count(s.post_id) AS samples,
    count(*) FILTER (s.split = 'train') AS train,
    count(*) FILTER (s.split = 'val') AS val,
    count(*) FILTER (s.split = 'test') AS test,
    count(*) FILTER (s.white_background) AS white_background,
    count(*) FILTER (s.white_background AND s.split = 'test') AS white_test
FROM labels AS l
LEFT JOIN personae AS p ON p.persona = l.label
LEFT JOIN samples AS s ON s.label = l.label
GROUP BY ALL
ORDER BY l.leaf;

-- The samples on a white background.
CREATE VIEW white_background AS
SELECT s.post_id, s.label, s.split, m.border_white, k.white_background_tag, s.shard, s.byte_offset
FROM samples AS s JOIN measures AS m USING (post_id) LEFT JOIN kept AS k USING (post_id)
WHERE s.white_background;

-- The samples on a ground that at most a tenth of their label has. The ground is white by the measured
-- border, or the background that the tags name, or not tagged.
CREATE VIEW unusual_ground AS
WITH tagged AS (
    SELECT t.post_id, string_agg(t.tag::VARCHAR, ' ' ORDER BY t.tag::VARCHAR) AS ground
    FROM post_tags AS t JOIN samples AS s USING (post_id)
    WHERE t.tag::VARCHAR LIKE '%\_background' ESCAPE '\'
      AND t.tag::VARCHAR NOT IN ('simple_background', 'white_background')
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

-- Labels that a person could confuse: a form and its base, two forms of one base, and for each
-- label the label of its copyright with the most similar name.
CREATE VIEW look_alikes AS
WITH pairs AS (
    SELECT
        a.label AS label_a, b.label AS label_b, coalesce(a.copyright, b.copyright) AS copyright,
        a.base, a.base = b.base AS one_base,
        b.label = a.base OR a.label = b.base AS is_base,
        a.copyright IS NOT DISTINCT FROM b.copyright AS one_copyright,
        round(jaro_winkler_similarity(a.label, b.label), 3) AS name_similarity
    FROM labels AS a JOIN labels AS b ON a.label < b.label
),
both_ways AS (
    SELECT label_a AS label, label_b AS other, name_similarity FROM pairs WHERE one_copyright
    UNION ALL
    SELECT label_b, label_a, name_similarity FROM pairs WHERE one_copyright
),
nearest AS (
    SELECT label, other FROM both_ways
    QUALIFY row_number() OVER (PARTITION BY label ORDER BY name_similarity DESC, other) = 1
)
SELECT
    label_a, label_b,
    CASE WHEN is_base THEN 'form_and_base' WHEN one_base THEN 'one_base' ELSE 'near_name' END AS kind,
    copyright, name_similarity
FROM pairs
WHERE is_base OR one_base
   OR (label_a, label_b) IN (SELECT (least(label, other), greatest(label, other)) FROM nearest)
ORDER BY kind, name_similarity DESC, label_a, label_b;

-- The same or nearly the same image in two splits. A drawn split is broken unless the view is empty.
-- A given split (`split.mode`) is taken as it is, and the view lists what it leaks.
CREATE VIEW leaks AS
WITH placed AS (
    SELECT s.post_id, s.split, s.group_id, m.sha256, m.image_sha256
    FROM splits AS s LEFT JOIN measures AS m USING (post_id)
),
apart AS (
    SELECT 'one_group' AS kind, a.post_id AS post_a, b.post_id AS post_b
    FROM placed AS a JOIN placed AS b USING (group_id) WHERE a.split < b.split
    UNION ALL
    SELECT 'one_file', a.post_id, b.post_id
    FROM placed AS a JOIN placed AS b USING (sha256) WHERE a.split < b.split
    UNION ALL
    SELECT 'one_picture', a.post_id, b.post_id
    FROM placed AS a JOIN placed AS b USING (image_sha256) WHERE a.split < b.split
    UNION ALL
    SELECT 'linked_' || l.link, l.post_a, l.post_b
    FROM links AS l
    JOIN placed AS a ON a.post_id = l.post_a
    JOIN placed AS b ON b.post_id = l.post_b
    WHERE a.split <> b.split
)
SELECT l.kind, l.post_a, l.post_b, a.split AS split_a, b.split AS split_b
FROM apart AS l
JOIN placed AS a ON a.post_id = l.post_a
JOIN placed AS b ON b.post_id = l.post_b
ORDER BY ALL;

-- Every sample, the position of its bytes, and what the board lists of its post.
CREATE VIEW dataset AS
SELECT
    s.post_id, s.label, s.leaf, s.split, t.fold, s.white_background, t.group_id,
    s.shard, s.byte_offset, s.sample_bytes, s.image_offset, s.image_bytes,
    p.rating, p.score, p.created_at_utc, p.image_width, p.image_height, m.sha256, m.border_white,
    list_concat(p.tags_general, p.tags_meta) AS tags, p.tags_copyright AS copyrights,
    array_to_string(p.tags_artist, ' ') AS artist, p.source AS source_url, p.uploader_id,
    p.original_url, p.original_path
FROM samples AS s
JOIN splits AS t USING (post_id)
JOIN posts AS p USING (post_id)
JOIN measures AS m USING (post_id);
