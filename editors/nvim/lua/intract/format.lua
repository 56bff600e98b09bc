--- Values as people read them.
local M = {}

---@param bytes? integer
---@return string
function M.size(bytes)
  if not bytes or bytes == 0 then
    return 'unknown size'
  end
  if bytes >= 2 ^ 30 then
    return ('%.1f GiB'):format(bytes / 2 ^ 30)
  end
  if bytes >= 2 ^ 20 then
    return ('%d MiB'):format(math.floor(bytes / 2 ^ 20 + 0.5))
  end
  return ('%d KiB'):format(math.ceil(bytes / 2 ^ 10))
end

---@param seconds? number
---@return string
function M.age(seconds)
  if not seconds then
    return 'never'
  end
  for _, unit in ipairs({ { 86400, 'day' }, { 3600, 'hour' }, { 60, 'minute' } }) do
    local count = math.floor(seconds / unit[1])
    if count > 0 then
      return ('%d %s%s ago'):format(count, unit[2], count == 1 and '' or 's')
    end
  end
  return 'just now'
end

--- Returns what an adapter gained on the project's own newest code.
---
---@param figures? table
---@return string
function M.gain(figures)
  local parts = {}
  for _, kind in ipairs({ { 'edit_similarity', 'edit similarity %.1f → %.1f' }, { 'nll', 'loss %.3f → %.3f' } }) do
    local before, after = (figures or {})[kind[1] .. '_base'], (figures or {})[kind[1] .. '_adapter']
    if type(before) == 'number' and type(after) == 'number' then
      parts[#parts + 1] = kind[2]:format(before, after)
    end
  end
  return #parts > 0 and table.concat(parts, ', ') or 'not measured'
end

--- Returns lines of names and values, the values below each other; rows without a value are left out.
---
---@param rows [string, string|number|false|nil][]
---@return string[]
function M.columns(rows)
  local widest = 0
  local kept = vim.tbl_filter(function(row)
    return row[2] ~= nil and row[2] ~= false and row[2] ~= ''
  end, rows)
  for _, row in ipairs(kept) do
    widest = math.max(widest, #row[1])
  end
  return vim.tbl_map(function(row)
    return ('%-' .. widest .. 's  %s'):format(row[1], (tostring(row[2]):gsub('\n', ' ')))
  end, kept)
end

return M
