-- Where did the posts go, stage by stage, and why?
SELECT stage, outcome, posts FROM funnel;

-- What happened to one post? (here: the last one refused as a duplicate)
SELECT step, outcome, detail
FROM journey
WHERE post_id = (SELECT max(post_id) FROM rejections WHERE stage = 'duplicates')
ORDER BY position, outcome;

-- How many samples has each label, in which split, and how many have a white background?
SELECT label, base, listed, samples, train, val, test, white_background FROM label_counts;

-- Which rules cost which persona the most posts?
SELECT persona, stage, reason, count(*) AS posts
FROM rejections
WHERE persona IS NOT NULL
GROUP BY ALL
ORDER BY posts DESC, persona, reason
LIMIT 10;

-- By how little were posts refused? (look here before you change a threshold in params.yaml)
SELECT stage, reason, count(*) AS posts, min(measured) AS least, median(measured) AS median,
       max(measured) AS most, any_value(threshold) AS threshold
FROM rejections
WHERE measured IS NOT NULL
GROUP BY ALL
ORDER BY posts DESC, reason;

-- Which general tags distinguish a form of a persona from its base?
SELECT l.label_a, l.label_b, t.tag,
       round(count(*) FILTER (c.label = l.label_a) / any_value(a.samples), 2) AS share_a,
       round(count(*) FILTER (c.label = l.label_b) / any_value(b.samples), 2) AS share_b
FROM (SELECT *, unnest([label_a, label_b]) AS label FROM look_alikes) AS l
JOIN label_counts AS c USING (label)
JOIN post_tags AS t ON t.sample_leaf = c.leaf
JOIN label_counts AS a ON a.label = l.label_a
JOIN label_counts AS b ON b.label = l.label_b
WHERE l.kind = 'form_and_base' AND t.category = 0
GROUP BY ALL
ORDER BY abs(share_a - share_b) DESC, tag, label_a
LIMIT 10;

-- Which tags go with a white background, and which with any other?
SELECT tag, count(*) AS samples, round(avg(sample_white_background::INTEGER), 3) AS share_on_white
FROM post_tags
WHERE category = 0 AND sample_leaf IS NOT NULL
GROUP BY tag
HAVING count(*) >= 10
ORDER BY share_on_white DESC, samples DESC, tag
LIMIT 10;

-- Where do the tag white_background and the measured border disagree the most?
SELECT s.post_id, s.label, round(m.border_white, 2) AS border_white, s.shard, s.byte_offset
FROM post_tags AS t
JOIN samples AS s USING (post_id)
JOIN measures AS m USING (post_id)
WHERE t.tag = 'white_background' AND NOT t.sample_white_background
ORDER BY m.border_white, s.post_id
LIMIT 10;

-- Which images were posted most often, and which of the copies was kept?
SELECT group_id, posts, kept, joined_by, farthest
FROM duplicate_groups
ORDER BY posts DESC, group_id
LIMIT 10;

-- Does anything leak from train to test, and how close do two splits come?
SELECT (SELECT count(*) FROM leaks) AS leaks, closest_pair ->> 'distance' AS closest,
       duplicate_distance, left(root_sha256, 12) AS root
FROM builds;
