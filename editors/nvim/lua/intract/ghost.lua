--- Ghost text: the suggestion that is shown at the cursor, drawn by us.
---
--- In Neovim 0.12 the built-in client draws suggestions; here it is what is left of one that was accepted in part.
local suggestions = require('intract.suggestion')

local M = {}

local NAMESPACE = vim.api.nvim_create_namespace('intract.suggestion')
local MARK = 1

--- Highlight group of the text, and of the count of several suggestions behind it.
M.GROUP, M.COUNT_GROUP = 'IntractSuggestion', 'IntractSuggestionCount'

---@class intract.Shown
---@field list intract.Suggestion[]
---@field index integer of the one that is shown
---@field counted boolean whether the number of suggestions is shown, too

---@type intract.Shown? Insert mode has one cursor, so there is one for the whole editor.
local shown

local function define_highlights()
  local has_groups = vim.fn.has('nvim-0.12') == 1
  vim.api.nvim_set_hl(0, M.GROUP, { default = true, link = has_groups and 'ComplHint' or 'Comment' })
  vim.api.nvim_set_hl(0, M.COUNT_GROUP, { default = true, link = has_groups and 'ComplHintMore' or 'MoreMsg' })
end

--- Replaces tabs by the blanks that they take: virtual text has no tab stops.
---
---@param text string
---@param column integer screen column that it begins at
---@return string
local function expand_tabs(text, column)
  local expanded = ''
  for before, tab in text:gmatch('([^\t]*)(\t?)') do
    expanded = expanded .. before
    if tab ~= '' then
      expanded = expanded .. (' '):rep(vim.fn.strdisplaywidth('\t', column + vim.fn.strdisplaywidth(expanded)))
    end
  end
  return expanded
end

--- Returns the lines to draw, and whether the first one lies over the text that it takes the place of.
---
---@param rest string
---@param replaced string
---@param column integer screen column of the cursor, from 0
---@return string[] lines
---@return boolean overlay
local function layout(rest, replaced, column)
  local lines = vim.split(rest, '\n', { plain = true })
  local overlay = replaced ~= ''
  if overlay and #lines == 1 and vim.endswith(rest, replaced) then
    lines[1], overlay = rest:sub(1, #rest - #replaced), false
  end
  for number, line in ipairs(lines) do
    lines[number] = expand_tabs(line, number == 1 and column or 0)
  end
  if overlay then
    local missing = vim.fn.strdisplaywidth(replaced) - vim.fn.strdisplaywidth(lines[1])
    lines[1] = lines[1] .. (' '):rep(math.max(0, missing))
  end
  return lines, overlay
end

---@param suggestion intract.Suggestion
---@param typed string
---@param count? string
local function draw(suggestion, typed, count)
  local line, col = unpack(vim.api.nvim_win_get_cursor(0))
  local replaced = vim.api.nvim_get_current_line():sub(col + 1, col + suggestion.replaces)
  local lines, overlay = layout(suggestion.text:sub(#typed + 1), replaced, vim.fn.virtcol('.') - 1)
  local chunks = {} ---@type [string, string][][]
  for _, text in ipairs(lines) do
    chunks[#chunks + 1] = { { text, M.GROUP } }
  end
  if count then
    table.insert(chunks[#chunks], { count, M.COUNT_GROUP })
  end
  vim.api.nvim_buf_set_extmark(suggestion.bufnr, NAMESPACE, line - 1, col, {
    id = MARK,
    virt_text = chunks[1],
    virt_text_pos = overlay and 'overlay' or 'inline',
    virt_lines = #chunks > 1 and vim.list_slice(chunks, 2) or nil,
    hl_mode = 'combine',
  })
end

--- Shows the first of these suggestions in place of what was shown.
---
---@param list intract.Suggestion[]
function M.show(list)
  M.hide()
  shown = { list = list, index = 1, counted = false }
  define_highlights()
  M.follow()
end

--- Draws what is left of the suggestion behind what was typed of it, or hides it where something else was typed.
---
---@return boolean fits
function M.follow()
  local suggestion, typed = M.current()
  if not shown or not suggestion or not typed then
    M.hide()
    return false
  end
  local count = shown.counted and (' (%d/%d)'):format(shown.index, #shown.list) or nil
  draw(suggestion, typed, count)
  return true
end

--- Returns the suggestion that is shown and the beginning of it that has been typed.
---
---@return intract.Suggestion? suggestion
---@return string? typed
function M.current()
  local suggestion = shown and shown.list[shown.index]
  local typed = suggestion and suggestions.typed(suggestion)
  if typed then
    return suggestion, typed
  end
end

--- Shows another one of several suggestions, in a circle.
---
---@param step integer
function M.cycle(step)
  if shown and #shown.list > 1 then
    shown.index = (shown.index - 1 + step) % #shown.list + 1
    shown.counted = true
    M.follow()
  end
end

function M.hide()
  local suggestion = shown and shown.list[shown.index]
  shown = nil
  if suggestion and vim.api.nvim_buf_is_valid(suggestion.bufnr) then
    vim.api.nvim_buf_clear_namespace(suggestion.bufnr, NAMESPACE, 0, -1)
  end
end

return M
